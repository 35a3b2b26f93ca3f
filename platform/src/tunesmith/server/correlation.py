"""Correlations of scores with something else, and how sure they are. Pure functions of arrays.

Suffixes: N values, C clusters, T terms of a sum, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 400
"""Of the bootstrap behind an interval; its noise is far below the interval's width."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with a 95 % interval; None where one of the two does not vary."""

    value: float | None
    low: float | None
    high: float | None


def spearman(x: Sequence[float], y: Sequence[float], clusters: Sequence[int], seed: int = 0) -> Correlation:
    """Rank correlation of x and y [N], ties at their mean rank.

    The interval is a percentile bootstrap over clusters (rollouts of one row are not independent), with ranks held fixed; from one
    cluster it is (-1, 1).
    """
    ranks_x, ranks_y = mean_ranks(x), mean_ranks(y)
    value = pearson(ranks_x, ranks_y)
    if value is None:
        return Correlation(None, None, None)
    labels, index_N = np.unique(np.asarray(clusters), return_inverse=True)
    if len(labels) < 2:
        return Correlation(value, -1.0, 1.0)
    centred_x, centred_y = ranks_x - ranks_x.mean(), ranks_y - ranks_y.mean()
    terms = [np.ones_like(centred_x), centred_x, centred_y, centred_x**2, centred_y**2, centred_x * centred_y]
    sums_CT = np.stack([np.bincount(index_N, weights=term, minlength=len(labels)) for term in terms], axis=1)
    rng = np.random.default_rng(seed)
    drawn_RC = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=RESAMPLES)
    n, sx, sy, sxx, syy, sxy = (drawn_RC @ sums_CT).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (n * sxy - sx * sy) / np.sqrt((n * sxx - sx**2) * (n * syy - sy**2))
    found = found[np.isfinite(found)]
    if not len(found):
        return Correlation(value, -1.0, 1.0)
    low, high = np.percentile(found, [2.5, 97.5])
    return Correlation(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)))


def mean_ranks(values: Sequence[float]) -> Floats:
    """Ranks [N] from 0.5, equal values at the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    _, index_N, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - counts / 2)[index_N]


def pearson(x: Floats, y: Floats) -> float | None:
    """Linear correlation of x and y [N]; None where there are fewer than two, or one of them does not vary."""
    if len(x) < 2:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return max(-1.0, min(1.0, float(x @ y) / scale)) if scale > 1e-12 else None
