"""The report's pictures as standalone SVG text: curves of losses, the scoreboard with its intervals, before and after.

Colours are those of Okabe and Ito (2008), told apart by the colour-blind; series differ in dash and marker as well, and carry their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tunesmith.agent.document import CandidateResult, Comparison, Score
from tunesmith.schemas.names import short_id

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 70, 24, 56, 52
"""In pixels; the four others are margins of the plot."""
TICKS = 5
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), by x."""


@dataclass(frozen=True)
class Dot:
    """One value with its interval."""

    name: str
    score: Score
    colour: str = COLOURS[0]
    hollow: bool = False
    """Drawn as a ring: a reference, not a result."""


def curves(title: str, x_label: str, y_label: str, lines: Sequence[Curve], height: int = 380) -> str:
    """Lines over a common x; points that are not finite are left out. Names stand in a legend below the title."""
    shown = [Curve(line.name, [p for p in line.points if math.isfinite(p[0] + p[1])]) for line in lines]
    shown = [line for line in shown if line.points]
    if not shown:
        return _picture(title, height, [_text(WIDTH / 2, height / 2, "No values were recorded.", anchor="middle")])
    legend_rows = -(-len(shown) // 2)
    top = TOP + 18 * legend_rows
    xs, ys = [p[0] for line in shown for p in line.points], [p[1] for line in shown for p in line.points]
    across = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Scale(min(ys), max(ys), height - BOTTOM, top)
    body = [
        *_grid(up, x_from=LEFT, x_to=WIDTH - RIGHT),
        *_below(across, height - BOTTOM),
        *_labels(x_label, y_label, height),
    ]
    for number, line in enumerate(shown):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        at = [(across.at(x), up.at(y)) for x, y in line.points]
        body.append(_line(at, colour, dash))
        if len(at) <= 40:
            body += [_mark(number, x, y, colour) for x, y in at]
        left, y = LEFT + (number % 2) * (WIDTH - LEFT - RIGHT) / 2, TOP - 6 + 18 * (number // 2)
        body += [_line([(left, y), (left + 30, y)], colour, dash), _mark(number, left + 15, y, colour)]
        body.append(_text(left + 38, y + 4, line.name, size=12))
    return _picture(title, height, body)


def intervals(title: str, x_label: str, dots: Sequence[Dot]) -> str:
    """Values one below the other, each with its 95 % interval and its number."""
    if not dots:
        return _picture(title, 160, [_text(WIDTH / 2, 90, "There are no values.", anchor="middle")])
    left, height = 250, TOP + 34 * len(dots) + BOTTOM
    low, high = min(dot.score.low for dot in dots), max(dot.score.high for dot in dots)
    across = _Scale(low, high, left, WIDTH - RIGHT - 50)
    body = [
        *_below(across, height - BOTTOM, grid_from=TOP - 8),
        _text((left + WIDTH - RIGHT) / 2, height - 12, x_label, anchor="middle"),
    ]
    for number, dot in enumerate(dots):
        y = TOP + 12 + 34 * number
        a, b, x = across.at(dot.score.low), across.at(dot.score.high), across.at(dot.score.mean)
        body.append(_text(left - 16, y + 4, dot.name, anchor="end", size=12))
        body.append(_line([(a, y), (b, y)], dot.colour, ""))
        body += [_line([(end, y - 5), (end, y + 5)], dot.colour, "") for end in (a, b)]
        fill = "#FFFFFF" if dot.hollow else dot.colour
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{dot.colour}" stroke-width="2"/>')
        body.append(_text(x, y - 9, f"{dot.score.mean:.3f}", anchor="middle", size=11))
    return _picture(title, height, body)


def scoreboard_figure(results: Sequence[CandidateResult], metric: str, winner: int | None) -> str:
    """All candidates and their base models; the winner in another colour."""
    dots = []
    for result in results:
        score = result.score if metric == "score" else result.loss
        if score is None or score.rows == 0:
            continue
        colour = GREY if result.number == 0 else COLOURS[1] if result.number == winner else COLOURS[0]
        dots.append(Dot(_name(result, winner), score, colour, hollow=result.number == 0))
    label = "score (higher is better)" if metric == "score" else "nats per trained token (lower is better)"
    return intervals("Candidates on the rows that choose, 95 % intervals", label, dots)


def held_out_figure(found: Comparison) -> str:
    """The final model beside its base, on rows that chose nothing."""
    label = "score (higher is better)" if found.metric == "score" else "nats per trained token (lower is better)"
    at = f" at temperature {found.base_temperature:g}" if found.base_temperature is not None else ""
    dots = [Dot(f"base model{at}", found.base, GREY, hollow=True), Dot("final model", found.tuned, COLOURS[1])]
    return intervals(f"Before and after, on {found.difference.rows} held-out rows", label, dots)


class _Scale:
    """From values to pixels, with round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if high - low < 1e-12 * max(1.0, abs(high)):
            pad = abs(high) * 0.1 or 1.0
            low, high = low - pad, high + pad
        step = _round_step((high - low) / TICKS)
        self._low, self._high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self._start, self._end = start, end
        self._digits = max(0, -math.floor(math.log10(step) + 1e-9))
        count = round((self._high - self._low) / step)
        self.ticks = [self._low + index * step for index in range(count + 1)]

    def at(self, value: float) -> float:
        """Pixel of a value."""
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)

    def shown(self, tick: float) -> str:
        """A tick's number."""
        return f"{tick + 0.0:.{self._digits}f}"


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1.0, 2.0, 5.0) if step <= factor * power * (1 + 1e-9)), 10.0 * power)


def _picture(title: str, height: float, body: Sequence[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#FFFFFF"/>',
        _text(LEFT - 50, 26, title, size=16, weight="bold"),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _grid(up: _Scale, *, x_from: float, x_to: float) -> list[str]:
    found = []
    for tick in up.ticks:
        y = up.at(tick)
        found.append(_line([(x_from, y), (x_to, y)], PALE, "", width=1.0))
        found.append(_text(x_from - 8, y + 4, up.shown(tick), anchor="end", size=12))
    return found


def _below(across: _Scale, y: float, grid_from: float | None = None) -> list[str]:
    found = [_line([(across.at(across.ticks[0]), y), (across.at(across.ticks[-1]), y)], GREY, "", width=1.0)]
    for tick in across.ticks:
        x = across.at(tick)
        found.append(
            _line(
                [(x, grid_from if grid_from is not None else y), (x, y + 5)], PALE if grid_from else GREY, "", width=1.0
            )
        )
        found.append(_text(x, y + 19, across.shown(tick), anchor="middle", size=12))
    return found


def _labels(x_label: str, y_label: str, height: float) -> list[str]:
    middle = (TOP + height - BOTTOM) / 2
    return [
        _text((LEFT + WIDTH - RIGHT) / 2, height - 12, x_label, anchor="middle"),
        f'<g transform="translate(18 {middle:.1f}) rotate(-90)">{_text(0, 0, y_label, anchor="middle")}</g>',
    ]


def _mark(number: int, x: float, y: float, colour: str) -> str:
    kind = number % 4
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    if kind == 1:
        return f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4" fill="{colour}"/>'
    corners = ((0, -4.5), (4, 3.5), (-4, 3.5)) if kind == 2 else ((0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0))
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str, width: float = 2.0) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: str = "normal") -> str:
    bold = f' font-weight="{weight}"' if weight != "normal" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}"{bold}>{escape(text)}</text>'


def _name(result: CandidateResult, winner: int | None) -> str:
    one = result.candidate
    if result.number == 0:
        return f"base: {short_id(one.base_model)}" if one else "base model"
    settings = f"rank {one.lora_rank or 'full'}, lr {one.learning_rate:g}" if one else ""
    return f"{result.number}: {settings}{' (winner)' if result.number == winner else ''}"
