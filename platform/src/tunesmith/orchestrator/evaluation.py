"""Held-out evaluation during training: one sample a row, with an interval. It selects the version that is promoted."""

from __future__ import annotations

import math
from collections.abc import Sequence


def interval(scores: Sequence[float], z: float = 1.96) -> tuple[float, float]:
    """95 % interval of the mean of scores in 0..1.

    0/1 scores: Wilson (E. B. Wilson, 1927); others: mean +- z standard errors (n - 1), cut to 0..1. No scores: (0, 1).
    """
    n = len(scores)
    if n == 0:
        return 0.0, 1.0
    mean = sum(scores) / n
    if all(score in (0.0, 1.0) for score in scores):
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    elif n == 1:
        return 0.0, 1.0
    else:
        centre, half = mean, z * math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1) / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def best_version(scores_by_version: dict[int, float]) -> int | None:
    """The trained version (1 or later) with the best held-out score; the later one of equals. None when none was evaluated."""
    trained = [version for version in scores_by_version if version > 0]
    return max(trained, key=lambda version: (scores_by_version[version], version), default=None)
