"""What a comparison on a limited number of rows says, and what it does not. Pure functions of per-row figures; nothing here is random twice.

Rows are the unit: they are resampled whole, and two models are compared on the same rows (paired). A loss is a ratio of sums, nats over
trained tokens, so that long rows count by their tokens. p-values are two-sided, by sign flips of the per-row differences: under the
hypothesis that both models are alike, each difference might as well have the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.agent.document import Score

LEVEL = 0.05
"""Of significance; intervals cover 1 - LEVEL."""
SEED = 42
BOOTSTRAPS = 4000
FLIPS = 20_000
EXACT_ROWS = 14
"""With at most so many differences that are not 0, every combination of signs is tried."""
_CELLS = 4_000_000
"""Numbers of one block of resampled rows: what bounds the memory."""

Vector = NDArray[np.float64]


class Loss(Protocol):
    """One row under one model."""

    @property
    def nats(self) -> float:
        """Sum of weight x negative log-likelihood over its trained tokens."""
        ...

    @property
    def tokens(self) -> int:
        """Trained tokens."""
        ...

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the trained text."""
        ...


@dataclass(frozen=True)
class Difference:
    """Second model minus first, on the rows that both have."""

    difference: Score
    p_value: float
    """1 where nothing differs, or there are no rows."""


def score_interval(scores: Sequence[float | None]) -> Score:
    """Mean of scores in 0..1 with its 95 % interval; None is an invalid row: counted, and left out.

    Wilson's interval (Wilson 1927) where every score is 0 or 1, else the bootstrap's, within 0..1. Without a valid score it is 0..1:
    nothing is known.
    """
    values = _valid(scores)
    invalid = len(scores) - len(values)
    if len(values) == 0:
        return Score(mean=0.0, low=0.0, high=1.0, rows=0, invalid=invalid)
    if np.isin(values, (0.0, 1.0)).all():
        low, high = _wilson(float(values.mean()), len(values))
    elif len(values) == 1:
        low, high = 0.0, 1.0
    else:
        low, high = _bootstrap(values, np.ones_like(values))
    return Score(mean=float(values.mean()), low=max(0.0, low), high=min(1.0, high), rows=len(values), invalid=invalid)


def loss_interval(losses: Sequence[Loss]) -> Score:
    """Nats per trained token with its 95 % interval. Raises ValueError when no row has a trained token."""
    nats, tokens = _arrays(losses)
    low, high = _bootstrap(nats, tokens)
    return Score(mean=float(nats.sum() / tokens.sum()), low=low, high=high, rows=len(losses))


def bits_per_byte(losses: Sequence[Loss]) -> float | None:
    """Bits per byte of trained text, comparable between tokenizers; None where no row says its bytes."""
    size = sum(loss.bytes for loss in losses)
    return sum(loss.nats for loss in losses) / math.log(2) / size if size else None


def compare_scores(first: Sequence[float | None], second: Sequence[float | None]) -> Difference:
    """Mean of second - first over the rows where both are valid. Raises ValueError when the numbers of rows differ."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores cannot be paired")
    paired = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    differences = np.array([b - a for a, b in paired], dtype=np.float64)
    return _difference(differences, np.ones_like(differences), invalid=len(first) - len(paired))


def compare_losses(first: Sequence[Loss], second: Sequence[Loss]) -> Difference:
    """Nats per trained token, second - first. Both must have the same rows, rendered by the same tokenizer.

    Raises ValueError when rows or their tokens differ.
    """
    if [loss.tokens for loss in first] != [loss.tokens for loss in second]:
        raise ValueError("losses of different rows, or of different tokenizers, cannot be paired")
    (before, tokens), (after, _) = _arrays(first), _arrays(second)
    return _difference(after - before, tokens)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the chance of any false find among them stays below the level."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def _difference(differences: Vector, weights: Vector, invalid: int = 0) -> Difference:
    if len(differences) == 0:
        return Difference(Score(mean=0.0, low=0.0, high=0.0, rows=0, invalid=invalid), 1.0)
    low, high = _bootstrap(differences, weights)
    mean = float(differences.sum() / weights.sum())
    return Difference(
        Score(mean=mean, low=low, high=high, rows=len(differences), invalid=invalid), _sign_flip(differences)
    )


def _sign_flip(differences: Vector) -> float:
    """Two-sided p-value of a sum of differences; the weights of a ratio are the same for each choice of signs."""
    moved = differences[differences != 0.0]
    if len(moved) == 0:
        return 1.0
    observed = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    if len(moved) <= EXACT_ROWS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(moved))))
        return float(np.mean(np.abs(signs @ moved) >= observed))
    generator = np.random.default_rng(SEED)
    block = max(1, _CELLS // len(moved))
    extreme = 0
    for start in range(0, FLIPS, block):
        signs = generator.integers(0, 2, (min(block, FLIPS - start), len(moved))) * 2.0 - 1.0
        extreme += int(np.sum(np.abs(signs @ moved) >= observed))
    return (1 + extreme) / (1 + FLIPS)  # the observed signs count as one of the draws, so that it is never 0


def _bootstrap(values: Vector, weights: Vector) -> tuple[float, float]:
    """95 % interval of sum(values) / sum(weights) over rows: percentiles of resampled rows.

    The percentiles are taken further out than 2.5 % by what few rows need (the expanded percentile interval of Hesterberg 2015,
    "What teachers should know about the bootstrap", 5.3.1). A single row says nothing about others: its interval is its own value.
    """
    rows = len(values)
    if rows == 1:
        only = float(values[0] / weights[0])
        return only, only
    generator = np.random.default_rng(SEED)
    block = max(1, _CELLS // rows)
    found = []
    for start in range(0, BOOTSTRAPS, block):
        drawn = generator.integers(0, rows, (min(block, BOOTSTRAPS - start), rows))
        found.append(values[drawn].sum(axis=1) / np.maximum(weights[drawn].sum(axis=1), 1e-12))
    tail = NormalDist().cdf(-math.sqrt(rows / (rows - 1)) * _t_quantile(rows - 1))
    low, high = np.quantile(np.concatenate(found), (tail, 1.0 - tail))
    return float(low), float(high)


def _t_quantile(df: int) -> float:
    """97.5 % quantile of Student's t: the Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5), bounded for 1 and 2 degrees."""
    z = NormalDist().inv_cdf(1 - LEVEL / 2)
    if df < 3:
        return (12.706, 4.303)[df - 1]
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df**power for power, term in enumerate(terms, start=1))


def _wilson(share: float, rows: int) -> tuple[float, float]:
    z = NormalDist().inv_cdf(1 - LEVEL / 2)
    center = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (center - half) / (1 + z * z / rows), (center + half) / (1 + z * z / rows)


def _valid(scores: Sequence[float | None]) -> Vector:
    return np.array([score for score in scores if score is not None], dtype=np.float64)


def _arrays(losses: Sequence[Loss]) -> tuple[Vector, Vector]:
    nats = np.array([loss.nats for loss in losses], dtype=np.float64)
    tokens = np.array([loss.tokens for loss in losses], dtype=np.float64)
    if not tokens.sum() > 0:
        raise ValueError("no row has a trained token")
    return nats, tokens
