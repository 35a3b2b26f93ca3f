"""The rendered scene: which objects somebody who looks at the drawing sees, where, how large, in which colour.

An object is a painted shape (for a path, one for each island of its subpaths) of which at least half is seen: not
outside the view, not hidden, transparent or covered by what is painted later, not in the colour of what lies under it.
Specks below 0.5 square units (of 100 x 100) are nothing. A shape that covers 95 % of the canvas is background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import colours, outlines, styles
from .colours import Colour
from .document import Element, UnreadableDrawing, parse
from .forms import Form, area, form_of
from .language import PLACES
from .numbers import Matrix, Point, apply, fit, length, multiply, numbers, scale_of, transform
from .raster import SIDE, Canvas, Spans, clip, extent, fill
from .styles import Paint, Style

MOST_SHAPES = 64
SMALL_BELOW, LARGE_FROM = 15.0, 26.0
"""Sizes are the longest extent of an object in hundredths of the canvas' longer side."""
_SPECK = 0.5
_BACKGROUND = 0.95
_GROUPS = frozenset({"g", "a", "svg", "symbol", "switch"})
_SILENT = frozenset(
    [
        "defs",
        "style",
        "title",
        "desc",
        "metadata",
        "linearGradient",
        "radialGradient",
        "pattern",
        "clipPath",
        "mask",
        "filter",
        "marker",
        "stop",
        "view",
    ]
)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Object:
    """One visible object."""

    form: Form
    colour: Colour
    place: str
    size: str

    def __str__(self) -> str:
        shape = self.form.names[0] if self.form.names else "irregular shape"
        return f"{self.size} {colours.names(self.colour)[0]} {shape} at {self.place}"


@dataclass(frozen=True)
class Scene:
    """What is seen: objects in painter's order, the background's colour, and how many shapes are not seen."""

    objects: tuple[Object, ...]
    background: Colour
    unseen: int


@dataclass
class _Shape:
    form: Form
    layers: list[tuple[Spans, Paint]]


@dataclass
class _Reader:
    """Walks the document and collects shapes in painter's order."""

    root: Element
    shapes: list[_Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sheet = styles.rules(self.root)
        self.gradients = styles.gradients(self.root, self.sheet)
        self.by_id = {e.attributes["id"]: e for e in self.root.walk() if "id" in e.attributes}
        self.steps = 0

    def group(
        self, element: Element, style: Style, matrix: Matrix, view: Box, box: Box, inside: tuple[int, ...]
    ) -> None:
        for child in element.children:
            self.element(child, style, matrix, view, box, inside)

    def element(
        self, element: Element, parent: Style, matrix: Matrix, view: Box, box: Box, inside: tuple[int, ...]
    ) -> None:
        """Read one element. `view` is its viewport in user units, `box` what it is clipped to on the canvas."""
        self.steps += 1
        if self.steps > 4000 or len(inside) > 64:
            raise UnreadableDrawing("its <use> elements repeat too much")
        if element.tag in _SILENT:
            return
        diagonal = math.hypot(view[2], view[3]) / math.sqrt(2)
        style = styles.computed(element, self.sheet, parent, self.gradients, diagonal)
        if not style.is_displayed or style.opacity <= 0:
            return
        matrix = multiply(matrix, transform(element.attributes.get("transform")))
        if element.tag == "use":
            self._use(element, style, matrix, view, box, inside)
        elif element.tag == "svg":
            self._viewport(element, element, style, matrix, view, box, inside)
        elif element.tag in _GROUPS - {"symbol"}:
            self.group(element, style, matrix, view, box, inside)
        elif element.tag != "symbol":
            self._shape(element, style, matrix, view, box)

    def _use(self, use: Element, style: Style, matrix: Matrix, view: Box, box: Box, inside: tuple[int, ...]) -> None:
        href = use.attributes.get("href", "")
        if not href.startswith("#"):
            raise UnreadableDrawing("it uses something outside of itself (<use> may only name an #id)")
        target = self.by_id.get(href[1:])
        if target is None:
            return
        if id(target) in inside:
            raise UnreadableDrawing(f"its <use> of {href:.40} is a circle")
        x, y = length(use.attributes.get("x"), 0, view[2]), length(use.attributes.get("y"), 0, view[3])
        matrix = multiply(matrix, (1, 0, 0, 1, x, y))
        if target.tag == "symbol":
            style = styles.computed(target, self.sheet, style, self.gradients, view[2])
            self._viewport(target, use, style, matrix, view, box, (*inside, id(target)), placed=True)
        else:
            self.element(target, style, matrix, view, box, (*inside, id(target)))

    def _viewport(
        self, content: Element, sized: Element, style: Style, matrix: Matrix, view: Box, box: Box,
        inside: tuple[int, ...], *, placed: bool = False,
    ) -> None:  # fmt: skip
        get = sized.attributes.get
        x, y = (0.0, 0.0) if placed else (length(get("x"), 0, view[2]), length(get("y"), 0, view[3]))
        width, height = length(get("width"), view[2], view[2]), length(get("height"), view[3], view[3])
        if matrix[1] or matrix[2]:
            raise UnreadableDrawing("it turns or skews a nested <svg> or <symbol>, which is not judged here")
        ends = [apply(matrix, corner) for corner in ((x, y), (x + width, y + height))]
        xs, ys = sorted(e[0] for e in ends), sorted(e[1] for e in ends)
        box = (max(box[0], xs[0]), max(box[1], ys[0]), min(box[2], xs[1]), min(box[3], ys[1]))
        matrix = multiply(matrix, (1, 0, 0, 1, x, y))
        inner: Box = (0.0, 0.0, width, height)
        if "viewBox" in content.attributes:
            inner = _view_box(content)
            matrix = multiply(matrix, fit(inner, width, height, content.attributes.get("preserveAspectRatio")))
        self.group(content, style, matrix, inner, box, inside)

    def _shape(self, element: Element, style: Style, matrix: Matrix, view: Box, box: Box) -> None:
        if element.tag in ("text", "tspan", "textPath"):
            raise UnreadableDrawing("it holds text, which is not judged here")
        lines = outlines.of(element, view[2], view[3])
        if lines is None:
            raise UnreadableDrawing(f"it uses <{element.tag:.30}>, which is not judged here")
        if not style.is_shown:
            return
        placed = [outlines.Line([apply(matrix, p) for p in line.points], line.is_closed) for line in lines]
        for island in _islands(placed):
            shape = _painted(island, style, scale_of(matrix), box)
            if shape is not None:
                self.shapes.append(shape)
                if len(self.shapes) > MOST_SHAPES:
                    raise UnreadableDrawing(f"it draws more than {MOST_SHAPES} shapes")


def read(svg: str) -> Scene:
    """Read the scene of a drawing; raises UnreadableDrawing with the reason."""
    root = parse(svg)
    view, matrix, width, height = _root_view(root)
    reader = _Reader(root)
    style = styles.computed(root, reader.sheet, Style(), reader.gradients, view[2])
    if style.is_displayed:
        reader.group(root, style, matrix, view, (0.0, 0.0, width, height), ())
    return _look(reader.shapes, width, height)


def _view_box(element: Element) -> Box:
    values = numbers(element.attributes["viewBox"])
    if len(values) != 4:
        raise UnreadableDrawing("its viewBox is not four numbers")
    return values[0], values[1], values[2], values[3]


def _root_view(root: Element) -> tuple[Box, Matrix, float, float]:
    get = root.attributes.get
    given = _view_box(root) if "viewBox" in root.attributes else None
    default = (given[2], given[3]) if given else (300.0, 150.0)
    # As browsers do: a length that is missing follows from the other one and the view box.
    width, height = length(get("width"), 0, default[0]), length(get("height"), 0, default[1])
    if not width or not height:
        ratio = default[0] / default[1] if default[1] else 0
        width, height = width or height * ratio or default[0], height or (width / ratio if ratio else 0) or default[1]
    view = given or (0.0, 0.0, width, height)
    matrix = fit(view, width, height, get("preserveAspectRatio"))
    shrink = SIDE / max(width, height)
    return view, multiply((shrink, 0, 0, shrink, 0, 0), matrix), width * shrink, height * shrink


def _islands(lines: list[outlines.Line]) -> list[list[outlines.Line]]:
    """Groups subpaths whose boxes overlap: a hole belongs to what is around it, two circles apart are two objects."""
    boxes = [
        (min(x for x, _ in ln.points), min(y for _, y in ln.points), max(x for x, _ in ln.points), max(y for _, y in ln.points))
        for ln in lines
    ]  # fmt: skip
    groups: list[list[int]] = []
    for i, (left, top, right, bottom) in enumerate(boxes):
        touching = [
            group
            for group in groups
            if any(
                left < boxes[j][2] and right > boxes[j][0] and top < boxes[j][3] and bottom > boxes[j][1] for j in group
            )
        ]
        groups = [group for group in groups if group not in touching] + [[i, *(j for group in touching for j in group)]]
    return [[lines[i] for i in sorted(group)] for group in sorted(groups, key=min)]


def _painted(island: list[outlines.Line], style: Style, scale: float, box: Box) -> _Shape | None:
    polygons = [line.points for line in island]
    fill_paint, stroke = style.fill, style.stroke
    thickness = style.stroke_width * scale if stroke else 0.0
    layers: list[tuple[Spans, Paint]] = []
    if fill_paint:
        opacity = fill_paint.opacity * style.fill_opacity * style.opacity
        layers.append((fill(polygons, even_odd=style.is_even_odd), Paint(fill_paint.colour, opacity)))
    if stroke and thickness > 0:
        opacity = stroke.opacity * style.stroke_opacity * style.opacity
        layers.append((fill(_ribbons(island, thickness)), Paint(stroke.colour, opacity)))
    layers = [layer for layer in layers if layer[0] and layer[1].opacity > 0]
    if not layers:
        return None
    outer = max(polygons, key=area)
    full = max(extent(spans) for spans, _ in layers)
    clipped = [(clip(spans, *box), paint) for spans, paint in layers]
    if full <= 0 or max(extent(spans) for spans, _ in clipped) < full / 2 and not _is_vast(clipped, box):
        return _Shape(Form((), (0.0, 0.0), 0.0), [])
    return _Shape(form_of(outer, grown=thickness), clipped)


def _is_vast(layers: list[tuple[Spans, Paint]], box: Box) -> bool:
    return extent(layers[0][0]) >= _BACKGROUND * (box[2] - box[0]) * (box[3] - box[1])


def _ribbons(island: list[outlines.Line], thickness: float) -> list[list[Point]]:
    """A stroke as one rectangle a segment, all wound the same way."""
    found: list[list[Point]] = []
    for line in island:
        ends = [*line.points[1:], line.points[0]] if line.is_closed else line.points[1:]
        for (ax, ay), (bx, by) in zip(line.points, ends, strict=False):
            size = math.hypot(bx - ax, by - ay)
            if size > 0:
                nx, ny = (ay - by) / size * thickness / 2, (bx - ax) / size * thickness / 2
                found.append([(ax + nx, ay + ny), (ax - nx, ay - ny), (bx - nx, by - ny), (bx + nx, by + ny)])
    return found


def _look(shapes: Sequence[_Shape], width: float, height: float) -> Scene:
    canvas = Canvas(width, height)
    backgrounds: set[int] = set()
    for index, shape in enumerate(shapes):
        if shape.layers and extent(shape.layers[0][0]) >= _BACKGROUND * width * height:
            backgrounds.add(index)
        for spans, paint in shape.layers:
            canvas.paint(spans, paint.colour, paint.opacity, index)
    seen = canvas.seen()
    ground: dict[Colour, float] = dict(seen.get(-1, {}))
    for index in backgrounds:
        for colour, size in seen.get(index, {}).items():
            ground[colour] = ground.get(colour, 0.0) + size
    background = max(ground, key=lambda c: ground[c]) if ground else colours.WHITE
    objects: dict[int, Object] = {}
    for index, shape in enumerate(shapes):
        by_colour = seen.get(index, {})
        visible = sum(by_colour.values())
        if index in backgrounds or visible < _SPECK:
            continue
        colour = max(by_colour, key=lambda c: by_colour[c])
        if colours.alike(colour, background):
            # In the background's colour it is seen only where it lies on something that is; elsewhere it erases.
            visible = min(visible, sum(canvas.over[index, below] for below in objects))
        if visible >= max(extent(spans) for spans, _ in shape.layers) / 2:
            objects[index] = _object(shape.form, colour, width, height)
    return Scene(tuple(objects.values()), background, len(shapes) - len(objects) - len(backgrounds & set(seen)))


def _object(form: Form, colour: Colour, width: float, height: float) -> Object:
    column = min(2, max(0, int(3 * form.centre[0] / width)))
    row = min(2, max(0, int(3 * form.centre[1] / height)))
    size = "small" if form.extent < SMALL_BELOW else "large" if form.extent >= LARGE_FROM else "medium"
    return Object(form, colour, PLACES[3 * row + column], size)
