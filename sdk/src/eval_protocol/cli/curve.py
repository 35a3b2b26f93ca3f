"""A small curve for the terminal, in Braille dots: 2 x 4 dots a character. Pure text, no colours, no terminal control."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot, by row and column inside a character."""


def curve(values: Sequence[float], width: int = 60, height: int = 5, low: float = 0.0, high: float = 1.0) -> list[str]:
    """Draw `values` from left to right between `low` and `high`.

    Args:
        values: one per step, at least one; more than fit are averaged into columns.
        width: characters of the drawing, its axis labels excluded.
        height: lines.

    Returns `height` lines, each with the axis label of its upper edge where it is the first or last one.
    """
    columns, rows = width * 2, height * 4
    points = _resample(values, columns)
    span = (high - low) or 1.0
    cells = [[0] * width for _ in range(height)]
    previous: int | None = None
    for x, value in enumerate(points):
        y = round((1 - min(max((value - low) / span, 0.0), 1.0)) * (rows - 1))
        for dot in range(*_between(previous, y)):
            cells[dot // 4][x // 2] |= _DOTS[dot % 4][x % 2]
        previous = y
    labels = [f"{high:5.2f} ┤", *["      │"] * (height - 2), f"{low:5.2f} ┤"]
    return [
        label + "".join(chr(0x2800 + bits) for bits in line).rstrip("\u2800")
        for label, line in zip(labels, cells, strict=True)
    ]


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last values as bars, 0 to 1, one line high."""
    bars = "▁▂▃▄▅▆▇█"
    return "".join(bars[min(int(min(max(value, 0.0), 1.0) * len(bars)), len(bars) - 1)] for value in values[-width:])


def _between(previous: int | None, y: int) -> tuple[int, int]:
    """The dots of one column that join it to the one before."""
    if previous is None or previous == y:
        return y, y + 1
    return (y, previous) if y < previous else (previous + 1, y + 1)


def _resample(values: Sequence[float], count: int) -> list[float]:
    """`count` values: straight lines between few ones, averages of many; a single value stays one."""
    size = len(values)
    if size <= 1:
        return list(values)
    if size >= count:
        edges = [round(at * size / count) for at in range(count + 1)]
        return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    points = []
    for at in range(count):
        place = at * (size - 1) / (count - 1)
        left = min(int(place), size - 2)
        points.append(values[left] + (place - left) * (values[left + 1] - values[left]))
    return points
