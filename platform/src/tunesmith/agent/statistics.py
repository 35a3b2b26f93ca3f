"""What a comparison on a limited number of rows says, and what it does not. Pure functions of per-row figures; nothing here is random twice.

Rows are the unit, and two models are compared on the same rows (paired). Scores follow `runs/intervals.py` and `runs/paired.py`, as
everywhere. A loss is a ratio of sums, nats over trained tokens, so that long rows count by their tokens; its interval resamples rows.
p-values of losses are two-sided, by sign flips of the per-row differences: under the hypothesis that both models are alike, each
difference might as well have the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.agent.document import Score
from tunesmith.runs.intervals import interval, t_quantile
from tunesmith.runs.paired import paired, sign_flips

LEVEL = 0.05
"""Of significance; intervals cover 1 - LEVEL."""
SEED = 42
BOOTSTRAPS = 4000
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

    Without a valid score it is 0..1: nothing is known.
    """
    values = [score for score in scores if score is not None]
    invalid = len(scores) - len(values)
    low, high = interval([[value] for value in values]) or (0.0, 1.0)
    return Score(mean=math.fsum(values) / max(1, len(values)), low=low, high=high, rows=len(values), invalid=invalid)


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
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    invalid = len(first) - len(pairs)
    if not pairs:
        return Difference(Score(mean=0.0, low=0.0, high=0.0, rows=0, invalid=invalid), 1.0)
    found = paired([a for a, _ in pairs], [b for _, b in pairs])
    score = Score(mean=found.difference, low=found.low, high=found.high, rows=len(pairs), invalid=invalid)
    return Difference(score, found.p)


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


def _difference(differences: Vector, weights: Vector) -> Difference:
    low, high = _bootstrap(differences, weights)
    mean = float(differences.sum() / weights.sum())
    # The weights of a ratio are the same for each choice of signs.
    p = sign_flips([float(each) for each in differences if each])
    return Difference(Score(mean=mean, low=low, high=high, rows=len(differences)), p)


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
    tail = NormalDist().cdf(-math.sqrt(rows / (rows - 1)) * t_quantile(rows - 1))
    low, high = np.quantile(np.concatenate(found), (tail, 1.0 - tail))
    return float(low), float(high)


def _arrays(losses: Sequence[Loss]) -> tuple[Vector, Vector]:
    nats = np.array([loss.nats for loss in losses], dtype=np.float64)
    tokens = np.array([loss.tokens for loss in losses], dtype=np.float64)
    if not tokens.sum() > 0:
        raise ValueError("no row has a trained token")
    return nats, tokens
