"""What an outline is: circle, square, bar, ..., from its area, its hull and the tightest rectangle around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .numbers import Point

# A square's sides differ by at most this factor; a bar's by at least the other.
SQUARE_UP_TO = 1.25
BAR_FROM = 2.0


@dataclass(frozen=True)
class Form:
    """Names that fit an outline (the best first, none: an irregular shape), its centre and its longest extent."""

    names: tuple[str, ...]
    centre: Point
    """Centre of the upright box around it."""
    extent: float
    """Longer side of the tightest rectangle around it, whichever way that is turned."""


def area(points: list[Point]) -> float:
    """Area inside a closed polygon (shoelace formula), unsigned."""
    total = 0.0
    x, y = points[-1]
    for px, py in points:
        total += x * py - px * y
        x, y = px, py
    return abs(total) / 2


def hull(points: list[Point]) -> list[Point]:
    """Convex hull (Andrew's monotone chain), without points on its edges."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    halves: list[list[Point]] = []
    for walk in (ordered, ordered[::-1]):
        half: list[Point] = []
        for p in walk:
            while len(half) > 1 and _turn(half[-2], half[-1], p) <= 1e-9:
                half.pop()
            half.append(p)
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def tightest(corners: list[Point]) -> tuple[float, float]:
    """Sides of the smallest rectangle around a convex polygon, the longer first."""
    best = (math.inf, 0.0, 0.0)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        size = math.hypot(bx - ax, by - ay)
        if size < 1e-9:
            continue
        ux, uy = (bx - ax) / size, (by - ay) / size
        along = [ux * x + uy * y for x, y in corners]
        across = [ux * y - uy * x for x, y in corners]
        w, h = max(along) - min(along), max(across) - min(across)
        best = min(best, (w * h, max(w, h), min(w, h)))
    return best[1], best[2]


def form_of(points: list[Point], *, grown: float = 0.0) -> Form:
    """Classify a closed polygon; `grown` is what a stroke adds to each of its sides."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    centre = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    corners = hull(points)
    if len(corners) < 3:
        long = math.hypot(max(xs) - min(xs), max(ys) - min(ys)) + grown
        return Form(("bar", "rectangle") if grown and long >= BAR_FROM * grown else (), centre, long)
    long, short = tightest(corners)
    around = area(corners)
    if area(points) < 0.9 * around or short <= 0:
        return Form((), centre, long + grown)
    return Form(_names(corners, around, long, short), centre, long + grown)


def _names(corners: list[Point], inside: float, long: float, short: float) -> tuple[str, ...]:
    aspect, filled = long / short, inside / (long * short)
    if filled > 0.93:
        if aspect <= SQUARE_UP_TO:
            return ("square", "rectangle")
        return ("bar", "rectangle") if aspect >= BAR_FROM else ("rectangle",)
    if filled < 0.56 and _largest_triangle(corners) > 0.93 * inside:
        return ("triangle",)
    # An ellipse fills pi / 4 of the rectangle around it.
    if abs(filled - math.pi / 4) < 0.03 and len(corners) >= 10:
        return ("circle",) if aspect <= SQUARE_UP_TO / 1.1 else ("ellipse",)
    return ()


def _largest_triangle(corners: list[Point]) -> float:
    """Area of a large triangle on the corners: the two furthest apart, and the one furthest from their line."""
    few = corners if len(corners) <= 24 else corners[:: len(corners) // 24 + 1]
    a, b = max(((p, q) for p in few for q in few), key=lambda pair: math.dist(*pair))
    return max(abs(_turn(a, b, c)) / 2 for c in corners)
