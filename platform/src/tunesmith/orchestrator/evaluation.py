"""Held-out evaluation during training: one sample a row, with an interval. It selects the version that is promoted."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.runs import intervals


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of scores in 0..1, one a row (`runs/intervals.py`). No scores: (0, 1), nothing is known."""
    return intervals.interval([[score] for score in scores]) or (0.0, 1.0)


def best_version(scores_by_version: dict[int, float]) -> int | None:
    """The trained version (1 or later) with the best held-out score; the later one of equals. None when none was evaluated."""
    trained = [version for version in scores_by_version if version > 0]
    return max(trained, key=lambda version: (scores_by_version[version], version), default=None)
