"""Standard errors and 95 % intervals for scores in 0..1. Pure functions of numbers.

Scores of one row (its runs) are one cluster: what varies between rows is the sampling of questions, and it counts with one run too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
BOOTSTRAP_SAMPLES = 1000


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


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), in 0..1."""
    p = successes / n
    denominator = 1 + Z * Z / n
    center = (p + Z * Z / (2 * n)) / denominator
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / denominator
    return max(0.0, center - half), min(1.0, center + half)


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of the mean over all values.

    Wilson for 0/1 scores with one value a group, and wherever no value differs from 0 or no value from 1 (there the variance says
    nothing); else Student's t on the clustered standard error, clipped to 0..1. None when neither can be had.
    """
    groups = [group for group in groups if group]
    values = [value for group in groups for value in group]
    if not values:
        return None
    binary = all(value in (0.0, 1.0) for value in values)
    if binary and (len(values) == len(groups) or len(set(values)) == 1):
        return wilson(mean(values) * len(groups), len(groups))
    error = clustered_standard_error(groups)
    if error is None:
        return None
    half = t_quantile(len(groups) - 1) * error
    return max(0.0, mean(values) - half), min(1.0, mean(values) + half)


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


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, tuple[float, float]]:
    """Mean, standard deviation and 2.5..97.5 % percentiles of means over resampled groups. Seeded: the same scores give the same numbers."""
    groups = [group for group in groups if group]
    generator = random.Random(seed)
    sums = [(math.fsum(group), len(group)) for group in groups]
    means = []
    for _ in range(BOOTSTRAP_SAMPLES):
        drawn = generator.choices(sums, k=len(sums))
        means.append(math.fsum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    center = mean(means)
    spread = math.sqrt(math.fsum((value - center) ** 2 for value in means) / (len(means) - 1))
    return center, spread, (means[int(0.025 * len(means))], means[int(0.975 * len(means))])


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
