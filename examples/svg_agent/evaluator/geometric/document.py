"""From untrusted text to a tree of elements, within limits; nothing is fetched, no entity is ever expanded."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

MOST_BYTES = 256 * 1024
MOST_ELEMENTS = 2000
DEEPEST = 64

# What is drawn by these would not be seen here, so a drawing that uses them is refused instead of misread.
_REFUSED = frozenset(
    {"image", "foreignobject", "script", "animate", "animatetransform", "animatemotion", "set", "iframe"}
)


class UnreadableDrawing(ValueError):
    """The text is not an SVG drawing that can be read here; the message says why."""


@dataclass
class Element:
    """One element: tag without prefix, attributes as written (`href` also for `xlink:href`), children, text."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def walk(self) -> list[Element]:
        """This element and all below it, in document order."""
        found: list[Element] = []
        waiting: list[Element] = [self]
        while waiting:
            element = waiting.pop()
            found.append(element)
            waiting.extend(reversed(element.children))
        return found


def parse(svg: str) -> Element:
    """Read the document; raises UnreadableDrawing for what is no SVG, is over a limit, or cannot be judged."""
    try:
        data = svg.strip().encode()
    except UnicodeEncodeError:
        raise UnreadableDrawing("it holds characters that are no text") from None
    if not data:
        raise UnreadableDrawing("there is no SVG")
    if len(data) > MOST_BYTES:
        raise UnreadableDrawing(f"it is larger than {MOST_BYTES // 1024} KiB")
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise UnreadableDrawing(f"it is not well-formed XML: {error}") from None
    root = reader.root
    if root is None or root.tag != "svg":
        raise UnreadableDrawing(f"its root element is <{root.tag if root else ''}>, not <svg>")
    return root


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self.open: list[Element] = []
        self.count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > MOST_ELEMENTS:
            raise UnreadableDrawing(f"it has more than {MOST_ELEMENTS} elements")
        if len(self.open) >= DEEPEST:
            raise UnreadableDrawing(f"it is nested deeper than {DEEPEST}")
        tag = name.rsplit(":", 1)[-1]
        if tag.lower() in _REFUSED:
            raise UnreadableDrawing(f"it uses <{tag}>, which is not judged here")
        if "xlink:href" in attributes:
            attributes.setdefault("href", attributes["xlink:href"])
        element = Element(tag, attributes)
        if self.open:
            self.open[-1].children.append(element)
        else:
            self.root = element
        self.open.append(element)

    def end(self, name: str) -> None:
        self.open.pop()

    def data(self, text: str) -> None:
        self.open[-1].text += text

    def doctype(self, *_: object) -> None:
        raise UnreadableDrawing("it has a document type declaration, which is refused")
