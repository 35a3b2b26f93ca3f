"""What is looked at before a drawing reaches a renderer: it was written by a model, so it may be anything.

Refused are documents that cost more than a drawing can be worth (size, depth, dimensions), and everything that could reach
outside: document types and entities, references to files or to the network, nested SVG images, CSS imports.
"""

import math
import re
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

MAX_BYTES = 256 * 1024
MAX_DEPTH = 128
"""Elements inside one another; resvg's recursion ends the process somewhere above 200 on an 8 MB stack."""
MAX_SIDE = 4096.0
"""Longest side in pixels: resvg allocates the whole canvas."""
DEFAULT_SIZE = (300.0, 150.0)
"""Of a drawing that gives neither size nor viewBox, as browsers have it."""
PIXELS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0, "em": 16.0, "ex": 8.0}  # fmt: skip
LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*|%)\s*")
REFERENCES = ("href", "src")
PICTURE = re.compile(r"\s*data:image/(png|jpe?g|gif|webp)[;,]", re.IGNORECASE)
URL = re.compile(r"url\(\s*['\"]?\s*([^'\")]*)", re.IGNORECASE)
IMPORT = re.compile(r"@\s*import", re.IGNORECASE)
START_TAG = re.compile(rb"""<svg(?:[^>"']|"[^"]*"|'[^']*')*?(?P<end>/?>)""")
NAMESPACES = {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}


class BadDrawing(ValueError):
    """The drawing cannot be rendered, or must not be; the message is the reason. Its author's fault, so it scores 0."""


@dataclass(frozen=True)
class Checked:
    """A drawing that may be rendered, and its size in pixels."""

    svg: str
    width: float
    height: float

    def fitted(self, longest: int) -> tuple[int, int]:
        """Width and height in whole pixels, the longer one `longest`."""
        scale = longest / max(self.width, self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))


def check(svg: str) -> Checked:
    """Look at the whole document without building it.

    Raises:
        BadDrawing: with what is wrong.
    """
    data = svg.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise BadDrawing(f"The drawing has {len(data):,} bytes; at most {MAX_BYTES:,} are rendered.")
    look = _Look()
    try:
        look.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadDrawing(f"The drawing is not well-formed XML: {error}.") from error
    width, height = _size(look.root)
    for what, value in (("width", width), ("height", height)):
        if not value <= MAX_SIDE:
            raise BadDrawing(f"The drawing's {what} is {value:g} pixels; at most {MAX_SIDE:g} are rendered.")
    # Models leave the namespaces out, and sizes in units that renderers treat differently: the outermost tag is written anew.
    attributes = {**NAMESPACES, **look.root, "width": f"{width:g}", "height": f"{height:g}"}
    tag = START_TAG.match(data, look.root_at)
    if tag is None:
        raise BadDrawing("The drawing's outermost tag cannot be read.")
    written = "<svg" + "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return Checked((data[: tag.start()] + written.encode() + data[tag.start("end") :]).decode(), width, height)


class _Look:
    """The handlers of one parse."""

    def __init__(self) -> None:
        self.root: dict[str, str] = {}
        self.root_at = -1
        self._depth = 0
        self._style: list[str] | None = None
        self.parser = expat.ParserCreate("UTF-8")
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.ProcessingInstructionHandler = self._refuse_instruction

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadDrawing(f"Elements are nested more than {MAX_DEPTH} deep.")
        local = name.rpartition(":")[2]
        if self.root_at < 0:
            if name != "svg":
                raise BadDrawing(f"The outermost element is <{name}>, not <svg>.")
            self.root, self.root_at = attributes, self.parser.CurrentByteIndex
        if local == "style":
            self._style = []
        for attribute, value in attributes.items():
            if attribute.rpartition(":")[2] in REFERENCES and local != "a":
                _check_reference(f"{attribute} of <{name}>", value)
            _check_css(f"{attribute} of <{name}>", value)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._style is not None and name.rpartition(":")[2] == "style":
            _check_css("<style>", "".join(self._style))
            self._style = None

    def _text(self, text: str) -> None:
        if self._style is not None:
            self._style.append(text)

    def _refuse_doctype(self, *_: object) -> None:
        raise BadDrawing("The drawing has a document type; leave <!DOCTYPE ...> and entities out.")

    def _refuse_instruction(self, target: str, _: str) -> None:
        raise BadDrawing(f"The drawing has a processing instruction (<?{target} ...?>), which is not rendered.")


def _check_reference(where: str, value: str) -> None:
    if value.strip().startswith("#") or not value.strip() or PICTURE.match(value):
        return
    raise BadDrawing(
        f"{where} refers to {value.strip()[:60]!r}: only #ids and data: pictures (png, jpeg, gif, webp) are rendered."
    )


def _check_css(where: str, text: str) -> None:
    if IMPORT.search(text):
        raise BadDrawing(f"{where} has an @import, which is not rendered.")
    for found in URL.finditer(text):
        _check_reference(where, found[1])


def _size(root: dict[str, str]) -> tuple[float, float]:
    """Width and height in pixels. A viewBox alone says how wide the drawing is for its height, so it may be any number of units."""
    box = _view_box(root.get("viewBox"))
    width, height = (_length(name, root.get(name)) for name in ("width", "height"))
    if box is None:
        return width or DEFAULT_SIZE[0], height or DEFAULT_SIZE[1]
    if width is None and height is None:
        scale = min(1.0, MAX_SIDE / max(box))
        return box[0] * scale, box[1] * scale
    if width is None:
        return (height or 0.0) * box[0] / box[1], height or 0.0
    return width, height if height is not None else width * box[1] / box[0]


def _length(name: str, text: str | None) -> float | None:
    """A length in pixels; None when it is left to the viewBox (missing, auto, a share of the page)."""
    if text is None or text.strip() in ("", "auto"):
        return None
    match = LENGTH.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or (unit != "%" and unit not in PIXELS):
        raise BadDrawing(f"The drawing's {name} is {text[:40]!r}, which is no length.")
    if unit == "%":
        return None
    value = float(match[1]) * PIXELS[unit]
    if not (math.isfinite(value) and value > 0):
        raise BadDrawing(f"The drawing's {name} is {text[:40]!r}; it must be above 0.")
    return value


def _view_box(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        _, _, width, height = (float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise BadDrawing(f"The drawing's viewBox is {text[:60]!r}; it must be four numbers.") from None
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise BadDrawing(f"The drawing's viewBox is {text[:60]!r}; its width and height must be above 0.")
    return width, height
