"""Paints polygons row by row, in painter's order, and keeps what is seen of whom.

The canvas is 100 units on its longer side. Each of its rows is a list of segments `[from, to, colour, owner]`, so that
the horizontal direction is exact and only the vertical one is sampled. Painting a colour over the same colour changes
nothing: a black circle on a black square is not seen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

from . import colours
from .colours import Colour
from .numbers import Point

SIDE = 100.0
STEP = 0.5
"""Height of a row."""
# Rows outside the canvas are measured this far, to tell how much of a shape lies outside.
_MARGIN = 200.0

Span: TypeAlias = tuple[float, float]
Spans: TypeAlias = dict[int, list[Span]]
"""Row number to the stretches that are inside."""


def fill(polygons: Sequence[Sequence[Point]], *, even_odd: bool = False) -> Spans:
    """The inside of polygons, by the nonzero rule unless told otherwise."""
    crossings: dict[int, list[tuple[float, int]]] = defaultdict(list)
    lowest, highest = math.ceil(-_MARGIN / STEP), math.ceil((SIDE + _MARGIN) / STEP)
    for polygon in polygons:
        ax, ay = polygon[-1]
        for bx, by in polygon:
            if ay != by:
                (ux, uy, vx, vy, sign) = (ax, ay, bx, by, 1) if ay < by else (bx, by, ax, ay, -1)
                slope = (vx - ux) / (vy - uy)
                first = max(lowest, math.ceil(uy / STEP - 0.5))
                for row in range(first, min(highest, math.ceil(vy / STEP - 0.5))):
                    crossings[row].append((ux + slope * ((row + 0.5) * STEP - uy), sign))
            ax, ay = bx, by
    return {row: _inside(sorted(found), even_odd) for row, found in crossings.items()}


def _inside(found: list[tuple[float, int]], even_odd: bool) -> list[Span]:
    spans: list[Span] = []
    winding, start = 0, 0.0
    for x, sign in found:
        was = winding
        winding = winding ^ 1 if even_odd else winding + sign
        if not was and winding:
            start = x
        elif was and not winding and x > start:
            spans.append((start, x))
    return spans


def extent(spans: Spans) -> float:
    """Area of a region."""
    return STEP * sum(b - a for row in spans.values() for a, b in row)


def clip(spans: Spans, left: float, top: float, right: float, bottom: float) -> Spans:
    """The part of a region inside a box."""
    kept: Spans = {}
    for row, stretches in spans.items():
        if top <= (row + 0.5) * STEP < bottom:
            inside = [(max(a, left), min(b, right)) for a, b in stretches if b > left and a < right]
            if inside:
                kept[row] = inside
    return kept


class Canvas:
    """What is seen so far.

    Args:
        width: Of the canvas, at most 100.
        height: Likewise.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.rows: list[list[tuple[float, float, Colour, int]]] = [
            [(0.0, width, colours.WHITE, -1)] for _ in range(round(height / STEP))
        ]
        self.over: dict[tuple[int, int], float] = defaultdict(float)
        """Area that an owner (the first) took from another when it was painted."""

    def paint(self, spans: Spans, colour: Colour, opacity: float, owner: int) -> None:
        """Paint a region; below half opacity what lies under it still owns what is seen there."""
        for row, stretches in spans.items():
            if 0 <= row < len(self.rows):
                for a, b in stretches:
                    self._paint_row(row, max(a, 0.0), min(b, self.width), colour, opacity, owner)

    def _paint_row(self, row: int, a: float, b: float, colour: Colour, opacity: float, owner: int) -> None:
        if b <= a:
            return
        result: list[tuple[float, float, Colour, int]] = []
        for segment in self.rows[row]:
            left, right, old, old_owner = segment
            if right <= a or left >= b:
                result.append(segment)
                continue
            new = colours.blend(old, colour, opacity)
            if colours.alike(old, new):
                result.append(segment)
                continue
            if left < a:
                result.append((left, a, old, old_owner))
            keeps = opacity < 0.5 and old_owner >= 0
            result.append((max(left, a), min(right, b), new, old_owner if keeps else owner))
            self.over[owner, old_owner] += STEP * (min(right, b) - max(left, a))
            if right > b:
                result.append((b, right, old, old_owner))
        self.rows[row] = result

    def seen(self) -> dict[int, dict[Colour, float]]:
        """For each owner the area that is seen of it, by colour; -1 is the bare canvas."""
        found: dict[int, dict[Colour, float]] = defaultdict(lambda: defaultdict(float))
        for row in self.rows:
            for left, right, colour, owner in row:
                found[owner][colour] += STEP * (right - left)
        return found
