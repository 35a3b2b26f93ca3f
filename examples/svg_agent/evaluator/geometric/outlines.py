"""The outlines of the basic shapes and of paths, as polygons in user units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .document import Element, UnreadableDrawing
from .numbers import Point, length, number, numbers

_ROUND = 48
"""Corners of the polygon that stands for a full ellipse: off by 0.2 % of the radius."""
_CURVE = 12
_MOST_POINTS = 20_000
_TOKEN = re.compile(r"[MmZzLlHhVvCcSsQqTtAa]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}


@dataclass
class Line:
    """One subpath."""

    points: list[Point]
    is_closed: bool


def of(element: Element, width: float, height: float) -> list[Line] | None:
    """Outlines of an element in a viewport of this size; None for what is no shape, [] for one that draws nothing."""
    get = element.attributes.get
    if element.tag == "circle":
        r = length(get("r"), 0, math.hypot(width, height) / math.sqrt(2))
        return _ellipse(length(get("cx"), 0, width), length(get("cy"), 0, height), r, r)
    if element.tag == "ellipse":
        rx, ry = length(get("rx"), -1, width), length(get("ry"), -1, height)
        rx, ry = (rx if rx >= 0 else ry), (ry if ry >= 0 else rx)
        return _ellipse(length(get("cx"), 0, width), length(get("cy"), 0, height), rx, ry)
    if element.tag == "rect":
        return _rectangle(element, width, height)
    if element.tag == "line":
        ends = [
            length(get(name), 0, whole)
            for name, whole in zip(("x1", "y1", "x2", "y2"), (width, height) * 2, strict=True)
        ]
        return [Line([(ends[0], ends[1]), (ends[2], ends[3])], False)]
    if element.tag in ("polygon", "polyline"):
        flat = numbers(get("points", ""))
        points = list(zip(flat[::2], flat[1::2], strict=False))
        return [Line(points, element.tag == "polygon")] if len(points) > 1 else []
    if element.tag == "path":
        return _path(get("d", ""))
    return None


def _ellipse(cx: float, cy: float, rx: float, ry: float) -> list[Line]:
    if rx <= 0 or ry <= 0:
        return []
    turns = [2 * math.pi * i / _ROUND for i in range(_ROUND)]
    return [Line([(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in turns], True)]


def _rectangle(element: Element, width: float, height: float) -> list[Line]:
    get = element.attributes.get
    x, y = length(get("x"), 0, width), length(get("y"), 0, height)
    w, h = length(get("width"), 0, width), length(get("height"), 0, height)
    if w <= 0 or h <= 0:
        return []
    rx, ry = length(get("rx"), -1, width), length(get("ry"), -1, height)
    rx, ry = (rx if rx >= 0 else ry), (ry if ry >= 0 else rx)
    rx, ry = min(max(rx, 0), w / 2), min(max(ry, 0), h / 2)
    if rx == 0 or ry == 0:
        return [Line([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], True)]
    quarter = [math.pi / 2 * i / (_ROUND // 4) for i in range(_ROUND // 4 + 1)]
    corners = ((x + w - rx, y + h - ry, 0), (x + rx, y + h - ry, 1), (x + rx, y + ry, 2), (x + w - rx, y + ry, 3))
    turned = [(cx, cy, q + k * math.pi / 2) for cx, cy, k in corners for q in quarter]
    return [Line([(cx + rx * math.cos(t), cy + ry * math.sin(t)) for cx, cy, t in turned], True)]


class _Pen:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.at: Point = (0.0, 0.0)
        self.start: Point = (0.0, 0.0)
        self.handle: Point | None = None
        """Last control point, for the smooth commands; with `curve` the command that set it."""
        self.curve = ""
        self.count = 0

    def to(self, point: Point) -> None:
        if not self.lines or self.lines[-1].is_closed:
            self.lines.append(Line([self.at], False))
        self.count += 1
        if self.count > _MOST_POINTS:
            raise UnreadableDrawing(f"a path has more than {_MOST_POINTS} points")
        self.lines[-1].points.append(point)
        self.at = point

    def move(self, point: Point) -> None:
        self.at = self.start = point
        self.lines.append(Line([point], False))

    def close(self) -> None:
        if self.lines:
            self.lines[-1].is_closed = True
        self.at = self.start

    def bezier(self, *control: Point) -> None:
        points = [self.at, *control]
        for i in range(1, _CURVE + 1):
            level, t = points, i / _CURVE
            while len(level) > 1:
                level = [
                    (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in zip(level, level[1:], strict=False)
                ]
            self.to(level[0])

    def reflected(self, curves: str) -> Point:
        if self.handle is None or self.curve not in curves:
            return self.at
        return (2 * self.at[0] - self.handle[0], 2 * self.at[1] - self.handle[1])


def _path(text: str) -> list[Line]:
    tokens = _tokens(text)
    pen, i, command = _Pen(), 0, ""
    while i < len(tokens):
        if tokens[i].isalpha():
            command = tokens[i]
            i += 1
        elif command.upper() in ("", "Z"):
            raise UnreadableDrawing("a path has numbers without a command")
        count = _ARGUMENTS[command.upper()]
        values = tokens[i : i + count]
        if len(values) < count or any(v.isalpha() for v in values):
            break  # as browsers do: what was read so far is drawn
        i += count
        _draw(pen, command, [number(v) for v in values])
        command = {"M": "L", "m": "l"}.get(command, command)
    return [line for line in pen.lines if len(line.points) > 1]


def _tokens(text: str) -> list[str]:
    # The flags of an arc may be written without separators ("a1 1 0 01 5 5").
    split = re.sub(r"([Aa][^A-Za-z]*)", lambda m: _split_flags(m[1]), text)
    return _TOKEN.findall(split)


def _split_flags(arc: str) -> str:
    rest, out, place = arc[1:], [arc[0]], 0
    while rest := rest.lstrip(" \t\r\n,"):
        match = re.match(r"[01]", rest) if place % 7 in (3, 4) else _TOKEN.match(rest)
        if match is None:
            return arc
        out.append(match[0])
        rest, place = rest[match.end() :], place + 1
    return " ".join(out)


def _draw(pen: _Pen, command: str, v: list[float]) -> None:
    kind = command.upper()
    ox, oy = pen.at if command.islower() else (0.0, 0.0)
    handle: Point | None = None
    if kind == "Z":
        pen.close()
    elif kind == "M":
        pen.move((ox + v[0], oy + v[1]))
    elif kind == "H":
        pen.to((ox + v[0], pen.at[1]))
    elif kind == "V":
        pen.to((pen.at[0], oy + v[0]))
    elif kind == "A":
        _arc(pen, v, (ox + v[5], oy + v[6]))
    else:
        points = [(ox + x, oy + y) for x, y in zip(v[::2], v[1::2], strict=True)]
        if kind == "L":
            pen.to(points[0])
        else:
            if kind in "ST":
                points.insert(0, pen.reflected("CS" if kind == "S" else "QT"))
            handle = points[-2]
            pen.bezier(*points)
    pen.handle, pen.curve = handle, kind


def _arc(pen: _Pen, v: list[float], end: Point) -> None:
    """SVG 2, appendix B.2.4: from end points to centre."""
    rx, ry, phi = abs(v[0]), abs(v[1]), math.radians(v[2])
    x1, y1 = pen.at
    if rx == 0 or ry == 0 or (x1, y1) == end:
        pen.to(end)
        return
    sin, cos = math.sin(phi), math.cos(phi)
    dx, dy = (x1 - end[0]) / 2, (y1 - end[1]) / 2
    px, py = cos * dx + sin * dy, -sin * dx + cos * dy
    grow = math.sqrt(max(1.0, (px / rx) ** 2 + (py / ry) ** 2))
    rx, ry = rx * grow, ry * grow
    below = (rx * py) ** 2 + (ry * px) ** 2
    factor = math.sqrt(max(0.0, ((rx * ry) ** 2 - below) / below)) * (-1 if bool(v[3]) == bool(v[4]) else 1)
    qx, qy = factor * rx * py / ry, -factor * ry * px / rx
    cx, cy = cos * qx - sin * qy + (x1 + end[0]) / 2, sin * qx + cos * qy + (y1 + end[1]) / 2
    first = math.atan2((py - qy) / ry, (px - qx) / rx)
    sweep = math.atan2((-py - qy) / ry, (-px - qx) / rx) - first
    if v[4] and sweep < 0:
        sweep += 2 * math.pi
    elif not v[4] and sweep > 0:
        sweep -= 2 * math.pi
    steps = max(2, math.ceil(abs(sweep) / (2 * math.pi) * _ROUND))
    for i in range(1, steps):
        t = first + sweep * i / steps
        x, y = rx * math.cos(t), ry * math.sin(t)
        pen.to((cos * x - sin * y + cx, sin * x + cos * y + cy))
    pen.to(end)
