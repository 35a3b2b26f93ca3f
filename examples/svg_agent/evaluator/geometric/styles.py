"""What an element is painted with: presentation attributes, style sheets, `style`, inheritance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import colours
from .colours import Colour
from .document import Element, UnreadableDrawing
from .numbers import length, number

_READ = frozenset(
    [
        "fill",
        "stroke",
        "stroke-width",
        "fill-opacity",
        "stroke-opacity",
        "opacity",
        "display",
        "visibility",
        "fill-rule",
        "color",
        "stop-color",
    ]
)
# These change what is seen in ways that are not judged here.
_REFUSED = ("clip-path", "mask", "filter", "mix-blend-mode", "marker-start", "marker-mid", "marker-end", "marker")
_SELECTOR = re.compile(r"(\*|[A-Za-z]\w*)?((?:[.#][\w-]+)*)")


@dataclass(frozen=True)
class Paint:
    """A colour with its opacity (0..1)."""

    colour: Colour
    opacity: float = 1.0


@dataclass(frozen=True)
class Style:
    """The computed style of an element. Opacity is the product of those of the element and all around it."""

    fill: Paint | None = Paint((0.0, 0.0, 0.0))
    stroke: Paint | None = None
    stroke_width: float = 1.0
    fill_opacity: float = 1.0
    stroke_opacity: float = 1.0
    opacity: float = 1.0
    is_shown: bool = True
    is_displayed: bool = True
    is_even_odd: bool = False
    colour: Colour = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Rule:
    """One selector of a style sheet with its declarations."""

    tag: str
    marks: tuple[str, ...]
    weight: tuple[int, int, int, int]
    declarations: Mapping[str, str]

    def matches(self, element: Element) -> bool:
        """Whether the selector picks the element."""
        if self.tag not in ("", "*", element.tag):
            return False
        classes = element.attributes.get("class", "").split()
        return all(
            mark[1:] in classes if mark[0] == "." else element.attributes.get("id") == mark[1:] for mark in self.marks
        )


def rules(root: Element) -> list[Rule]:
    """All style rules of the document, weakest first."""
    found: list[Rule] = []
    for element in root.walk():
        if element.tag != "style":
            continue
        text = re.sub(r"/\*.*?\*/", "", element.text, flags=re.DOTALL)
        if "@" in text:
            raise UnreadableDrawing("its style sheet has an @-rule, which is not judged here")
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
            for selector in selectors.split(","):
                found.append(_rule(selector.strip(), body, len(found)))
    return sorted(found, key=lambda rule: rule.weight)


def _rule(selector: str, body: str, order: int) -> Rule:
    match = _SELECTOR.fullmatch(selector)
    if match is None or not selector:
        raise UnreadableDrawing(f"its style sheet has the selector {selector!r:.40}, which is not judged here")
    marks = tuple(re.findall(r"[.#][\w-]+", match[2]))
    ids = sum(mark[0] == "#" for mark in marks)
    weight = (ids, len(marks) - ids, int(bool(match[1]) and match[1] != "*"), order)
    return Rule(match[1] or "", marks, weight, declarations(body))


def declarations(text: str) -> dict[str, str]:
    """A declaration block as names and values."""
    pairs = (part.split(":", 1) for part in text.split(";") if ":" in part)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def computed(element: Element, sheet: list[Rule], parent: Style, gradients: Mapping[str, Paint], whole: float) -> Style:
    """The style of an element inside one of style `parent`; `whole` is what 100 % of a length means."""
    attributes = {k: v for k, v in element.attributes.items() if k in _READ or k in _REFUSED}
    layers = [rule.declarations for rule in sheet if rule.matches(element)]
    layers.append(declarations(element.attributes.get("style", "")))
    values = dict(attributes)
    for strong in (False, True):
        for layer in layers:
            values |= {k: _plain(v) for k, v in layer.items() if ("!important" in v.lower()) == strong}
    for name in _REFUSED:
        if values.get(name, "none").strip() not in ("none", "normal", ""):
            raise UnreadableDrawing(f"it uses {name}, which is not judged here")
    if any("transform" in layer for layer in layers):
        raise UnreadableDrawing("it has a transform in a style, which is not judged here; use the attribute")
    return _apply(values, parent, gradients, whole)


def _plain(value: str) -> str:
    return re.sub(r"\s*!important\s*$", "", value, flags=re.IGNORECASE)


def _apply(values: dict[str, str], parent: Style, gradients: Mapping[str, Paint], whole: float) -> Style:
    values = {k: v.strip() for k, v in values.items() if v.strip() != "inherit"}
    own = colours.parse(values.get("color", ""))
    style = replace(parent, colour=own[0] if own else parent.colour)
    style = replace(
        style,
        fill=_paint(values.get("fill"), style.fill, style.colour, gradients),
        stroke=_paint(values.get("stroke"), style.stroke, style.colour, gradients),
        stroke_width=max(0.0, length(values.get("stroke-width"), style.stroke_width, whole)),
        fill_opacity=_opacity(values.get("fill-opacity"), style.fill_opacity),
        stroke_opacity=_opacity(values.get("stroke-opacity"), style.stroke_opacity),
        opacity=style.opacity * _opacity(values.get("opacity"), 1.0),
    )
    if "visibility" in values:
        style = replace(style, is_shown=values["visibility"] == "visible")
    if "fill-rule" in values:
        style = replace(style, is_even_odd=values["fill-rule"] == "evenodd")
    return replace(style, is_displayed=style.is_displayed and values.get("display") != "none")


def _opacity(text: str | None, default: float) -> float:
    if text is None:
        return default
    value = number(text[:-1]) / 100 if text.endswith("%") else number(text)
    return min(1.0, max(0.0, value))


def _paint(text: str | None, inherited: Paint | None, current: Colour, gradients: Mapping[str, Paint]) -> Paint | None:
    if text is None:
        return inherited
    if text.lower() == "none":
        return None
    if text.lower() == "currentcolor":
        return Paint(current)
    link = re.match(r"url\(\s*['\"]?#([^'\")]+)['\"]?\s*\)", text)
    if link:
        if link[1] not in gradients:
            raise UnreadableDrawing(f"it is painted with #{link[1]:.40}, which is no gradient of this drawing")
        return gradients[link[1]]
    colour = colours.parse(text)
    return Paint(*colour) if colour else inherited


def gradients(root: Element, sheet: list[Rule]) -> dict[str, Paint]:
    """Gradients by id, each as the mean of its stops: enough to name a colour."""
    elements = [e for e in root.walk() if e.tag in ("linearGradient", "radialGradient") and "id" in e.attributes]
    found: dict[str, Paint] = {}
    for element in elements:
        source = next((e for e in elements if f"#{e.attributes['id']}" == element.attributes.get("href")), element)
        stops = [_stop(stop, sheet) for stop in (element.children or source.children) if stop.tag == "stop"]
        if stops:
            r, g, b = (sum(stop.colour[i] for stop in stops) / len(stops) for i in range(3))
            found[element.attributes["id"]] = Paint((r, g, b), sum(stop.opacity for stop in stops) / len(stops))
    return found


def _stop(element: Element, sheet: list[Rule]) -> Paint:
    values = dict(element.attributes)
    for layer in [rule.declarations for rule in sheet if rule.matches(element)]:
        values |= layer
    values |= declarations(element.attributes.get("style", ""))
    colour = colours.parse(values.get("stop-color", "black")) or ((0.0, 0.0, 0.0), 1.0)
    return Paint(colour[0], colour[1] * _opacity(values.get("stop-opacity"), 1.0))
