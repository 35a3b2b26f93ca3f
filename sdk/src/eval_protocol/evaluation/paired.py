"""Two models, or two versions, on the same rows: the mean difference, its 95 % interval, and whether it may be chance. Pure functions.

p-values are two-sided mid-p values: what is more extreme counts whole, what is equally extreme half (Lancaster 1961; for paired 0/1
scores Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data"). Exact tests call fewer than 5 % of
comparisons of equal models significant, the fewer the fewer pairs differ; this one calls about 5 %. The platform computes the same,
and a test holds the two against each other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from eval_protocol.evaluation.intervals import bounded, clustered_standard_error

EXACT_PAIRS = 16
"""With at most so many pairs that differ, every combination of signs is tried."""
FLIPS = 10_000
MOST_FLIPPED_PAIRS = 1000
"""Beyond, the mean is as good as normal, and flipping would take seconds."""
SEED = 42
SIGN_TEST, SIGN_FLIPS, T_TEST = "mid-p sign test (McNemar)", "sign-flip permutation test", "paired t-test"


@dataclass(frozen=True)
class Paired:
    """What the differences of all pairs say; each is second minus first, of scores in 0..1."""

    difference: float
    low: float
    """95 % interval of the mean difference, in -1..1."""
    high: float
    p: float
    """Two-sided: how likely so large a mean difference would be if both were alike. 1 where no pair differs."""
    test: str


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare scores in 0..1 of the same rows, in the same order; a row's several rollouts count as their mean.

    The test: the sign test on the pairs that differ where every score is 0 or 1; else a permutation test that flips the signs of the
    differences (exact to 16 pairs that differ, else 10,000 flips); the t-test beyond 1,000.

    Raises:
        ValueError: no pairs, or different numbers of scores.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} scores cannot be paired")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    mean = math.fsum(differences) / len(differences)
    error = clustered_standard_error([[each] for each in differences])
    low, high = bounded(mean, error, len(differences), -1.0, 1.0)
    if all(score in (0.0, 1.0) for scores in (first, second) for score in scores):
        p, test = sign_test(sum(each > 0 for each in differences), sum(each < 0 for each in differences)), SIGN_TEST
    else:
        p, test = _test(differences)
    return Paired(mean, low, high, p, test)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided mid-p value of so many wins among the pairs that differ, each as likely a win as a loss."""
    n, fewer = wins + losses, min(wins, losses)
    if n == 0:
        return 1.0
    if n > MOST_FLIPPED_PAIRS:
        return math.erfc(abs(wins - losses) / math.sqrt(2 * n))
    below = sum(math.comb(n, each) for each in range(fewer))
    return min(1.0, (2 * below + math.comb(n, fewer)) / 2**n)


def _test(differences: Sequence[float]) -> tuple[float, str]:
    moved = [each for each in differences if each]
    if len(moved) <= MOST_FLIPPED_PAIRS:
        return sign_flips(moved), SIGN_FLIPS
    mean, error = math.fsum(differences) / len(differences), clustered_standard_error([[each] for each in differences])
    return (math.erfc(abs(mean) / error / math.sqrt(2)) if error else 0.0), T_TEST


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided mid-p value of a sum of differences, were each sign as likely as the other. The same numbers give the same value."""
    if not differences:
        return 1.0
    observed, slack = abs(math.fsum(differences)), 1e-9 * math.fsum(map(abs, differences))
    if observed <= slack:
        return 1.0
    tables = [_sums(differences[start : start + 8]) for start in range(0, len(differences), 8)]
    if len(differences) <= EXACT_PAIRS:
        first, second = tables[0], tables[1] if len(tables) > 1 else [0.0]
        totals = [abs(one + other) for one in first for other in second]
        return _extreme(totals, observed, slack) / len(totals)
    generator, totals = random.Random(SEED), []
    sizes = [len(table) - 1 for table in tables]
    for _ in range(FLIPS):
        signs = generator.randbytes(len(tables))
        totals.append(abs(sum(table[sign & size] for table, sign, size in zip(tables, signs, sizes, strict=True))))
    return (1 + _extreme(totals, observed, slack)) / (
        1 + FLIPS
    )  # the observed signs are one of the draws: it is never 0


def _extreme(totals: Sequence[float], observed: float, slack: float) -> float:
    """How many are beyond what was observed, with half of those that equal it."""
    beyond = sum(total > observed + slack for total in totals)
    return beyond + sum(abs(total - observed) <= slack for total in totals) / 2


def _sums(values: Sequence[float]) -> list[float]:
    """The sum of up to eight values under each choice of signs."""
    sums = [0.0]
    for value in values:
        sums = [total - value for total in sums] + [total + value for total in sums]
    return sums
