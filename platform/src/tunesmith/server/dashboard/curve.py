"""A reward curve as inline SVG: mean score of each chunk as a line, held-out scores as dots with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 8, 8, 22


@dataclass(frozen=True)
class HeldOut:
    """One held-out evaluation: mean score and its 95 % interval."""

    step: float
    score: float
    low: float
    high: float


def reward_curve(training: Sequence[tuple[float, float]], held_out: Sequence[HeldOut]) -> Markup:
    """SVG of (step, mean score) points; scores lie in 0..1. Empty when there is nothing to draw."""
    if not training and not held_out:
        return Markup("")
    last = max([step for step, _ in training] + [item.step for item in held_out] + [1])
    parts = [_grid(last)]
    if training:
        points = " ".join(f"{_x(step, last)},{_y(score)}" for step, score in training)
        parts.append(f'<polyline class="train" points="{points}"/>')
        parts.extend(f'<circle class="train" cx="{_x(s, last)}" cy="{_y(m)}" r="2"/>' for s, m in training)
    for item in held_out:
        x = _x(item.step, last)
        parts.append(f'<line class="held" x1="{x}" x2="{x}" y1="{_y(item.low)}" y2="{_y(item.high)}"/>')
        parts.append(f'<circle class="held" cx="{x}" cy="{_y(item.score)}" r="4"/>')
    label = f"Mean score by step, {len(training)} chunks, {len(held_out)} held-out evaluations"
    body = "".join(parts)
    # Numbers only: nothing in here comes from a user as text.
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{body}</svg>')


def _grid(last: float) -> str:
    lines = []
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(score)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{score:g}</text>')
    lines.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step {last:g}</text>')
    lines.append(f'<text x="{_LEFT}" y="{HEIGHT - 4}">0</text>')
    return "".join(lines)


def _x(step: float, last: float) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * step / last, 1)


def _y(score: float) -> float:
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, max(0.0, score))), 1)
