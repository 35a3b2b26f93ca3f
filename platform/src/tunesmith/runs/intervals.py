"""Standard errors and 95 % intervals for the mean of scores in 0..1, and pass@k. Pure functions of numbers, without dependencies.

Scores of one row (its rollouts) are one cluster: what varies between rows is the sampling of questions, and it counts with one rollout a
row, too (Miller 2024, "Adding error bars to evals", arXiv 2411.00640). One method for all scores: Wilson's interval (Wilson 1927) on the
effective number of rows, that is on as many 0/1 rows as would leave the same standard error (Korn and Graubard 1998; Dean and Pagano
2015), with Student's t where the standard error itself is estimated. It stays inside 0..1 and is as lopsided as a mean near a bound
asks for. The SDK computes the same, and a test holds the two against each other; `make check-statistics` prints what they cover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
ALIKE = 1e-9
"""A standard error below it is none: every row has the same mean."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def clustered_standard_error(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the mean over all values, clustered by group (CR1: residual sums per group, times G / (G - 1)).

    With one value a group it is the usual s / sqrt(n). None with fewer than two groups: one question says nothing about others.
    """
    groups = [group for group in groups if group]
    if len(groups) < 2:
        return None
    total = sum(len(group) for group in groups)
    center = math.fsum(value for group in groups for value in group) / total
    residuals = (math.fsum(value - center for value in group) for group in groups)
    correction = len(groups) / (len(groups) - 1)
    return math.sqrt(correction * math.fsum(residual * residual for residual in residuals)) / total


def wilson(successes: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), in 0..1."""
    p = successes / n
    denominator = 1 + z * z / n
    center = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(max(0.0, p * (1 - p)) / n + z * z / (4 * n * n)) / denominator
    return min(p, max(0.0, center - half)), max(p, min(1.0, center + half))  # rounding may not cut off p itself


def bounded(center: float, error: float | None, rows: int, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """95 % interval of a mean of values that lie in low..high.

    Args:
        center: the mean.
        error: its standard error, clustered by row; None where it cannot be known.
        rows: rows (clusters) behind it, at least one.
        low, high: the bounds of the values.

    Returns:
        Wilson's interval on the effective rows. Where all rows are alike the variance says nothing: what remains is the share of rows that
        are different and were not seen, at most Wilson's upper end of 0 in `rows`, and these may lie anywhere in the bounds.
    """
    if error is None or error < ALIKE * (high - low):
        unseen = wilson(0, rows)[1]
        return center - unseen * (center - low), center + unseen * (high - center)
    share, spread = (center - low) / (high - low), error / (high - low)
    effective = max(share * (1 - share), ALIKE) / spread**2
    lower, upper = wilson(share * effective, effective, t_quantile(rows - 1))
    return low + lower * (high - low), low + upper * (high - low)


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of the mean over all values, each in 0..1, grouped by row. None without a value.

    0/1 scores with one value a row: Wilson's. Others: `bounded`, on the standard error clustered by row.
    """
    groups = [group for group in groups if group]
    values = [value for group in groups for value in group]
    if not values:
        return None
    if len(values) == len(groups) and all(value in (0.0, 1.0) for value in values):
        return wilson(sum(values), len(values))
    return bounded(mean(values), clustered_standard_error(groups), len(groups))


def t_quantile(df: int) -> float:
    """97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else the expansion of Abramowitz and Stegun 26.7.5.

    The expansion is within 0.6 % from 3 degrees of freedom on, within 0.01 % from 10.
    """
    if df == 1:
        return 12.706204736432095
    if df == 2:
        return 4.302652729696142
    z = Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / df**power for power, term in enumerate(terms))


def pass_at_k(groups: Sequence[Sequence[float]], k: int, solved: float = 1.0) -> float | None:
    """Chance that at least one of k rollouts of a row solves it, averaged over rows (unbiased: Chen et al. 2021, arXiv 2107.03374).

    Args:
        groups: scores per row. Rows with fewer than k valid scores are left out.
        solved: a score of at least this counts as solved.

    Returns:
        the estimate, or None when no row has k scores.
    """
    if k < 1:
        raise ValueError(f"pass@k needs k of at least 1, not {k}.")
    estimates = []
    for group in groups:
        n = len(group)
        if n >= k:
            wrong = sum(value < solved for value in group)
            estimates.append(1.0 - math.comb(wrong, k) / math.comb(n, k))
    return mean(estimates) if estimates else None
