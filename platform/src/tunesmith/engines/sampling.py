"""Choosing the next token of every row of a batch at once, with noise that is a pure function of what it is for.

The uniform number of a draw is splitmix64 over (seed, candidate index, position) and nothing else, so a candidate does not
depend on its neighbours, on when it was admitted or on how often it was interrupted. The draw inverts the cumulative
distribution in float64, in the order of token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_INDEX_STRIDE = np.uint64(0xD1B54A32D192ED03)
_POSITION_STRIDE = np.uint64(0x8CB92BA72F3D8DD7)


@dataclass(frozen=True)
class RowSettings:
    """How one candidate is sampled."""

    seed: int
    index: int
    temperature: float
    top_p: float
    top_k: int
    top_logprobs: int


@dataclass(frozen=True)
class Draw:
    """One token for each of B rows, as Python lists ready for the wire."""

    token_ids: list[int]
    logprobs: list[float]
    model_logprobs: list[float]
    valid: list[bool]
    """False where the model gave no distribution (NaN or infinite logits); the row's other values mean nothing."""
    top: list[list[tuple[int, float]]] | None
    """Per row the likeliest (id, log-probability at temperature 1); None when no row asked."""


class BatchSettings:
    """The settings of B rows as arrays; built when a batch changes, used for every step until it does."""

    def __init__(self, rows: Sequence[RowSettings]) -> None:
        self.size = len(rows)
        self._stream = _stream(
            np.array([row.seed for row in rows], np.uint64), np.array([row.index for row in rows], np.uint64)
        )
        temperature = torch.tensor([row.temperature for row in rows], dtype=torch.float32)
        self.greedy = temperature == 0
        self.any_greedy = bool(self.greedy.any())
        self.all_greedy = bool(self.greedy.all())
        scale = torch.where(self.greedy, torch.ones_like(temperature), temperature)
        self.temperature = None if bool((scale == 1).all()) else scale[:, None]
        self.filtered = [i for i, row in enumerate(rows) if row.temperature > 0 and (row.top_k or row.top_p < 1)]
        self.top_k = [rows[i].top_k for i in self.filtered]
        self.top_p = torch.tensor([rows[i].top_p for i in self.filtered], dtype=torch.float64)
        self.top_logprobs = [row.top_logprobs for row in rows]
        self.most_top_logprobs = max(self.top_logprobs, default=0)

    def uniforms(self, positions: Sequence[int]) -> Tensor:
        """The uniform numbers in [0, 1) of the draws at these positions (0 = first sampled token), float64 [B]."""
        with np.errstate(over="ignore"):
            state = _mix(self._stream + np.array(positions, np.uint64) * _POSITION_STRIDE)
        return torch.from_numpy((state >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def draw(logits: Tensor, settings: BatchSettings, positions: Sequence[int]) -> Draw:
    """Sample one token per row. `logits` is float32 [B, V]; row i is the `positions[i]`-th sampled token of its candidate."""
    model_logprobs = torch.log_softmax(logits, -1)
    scaled, at_temperature = logits, model_logprobs
    if settings.temperature is not None:
        scaled = logits / settings.temperature
        at_temperature = torch.log_softmax(scaled, -1)
    if settings.all_greedy:
        ids, valid = logits.argmax(-1), torch.isfinite(model_logprobs.amax(-1))
    else:
        ids, valid = _sample(scaled, settings, positions)
        if settings.any_greedy:
            ids = torch.where(settings.greedy, logits.argmax(-1), ids)
    picked = ids[:, None]
    chosen = torch.cat([at_temperature.gather(1, picked), model_logprobs.gather(1, picked)], 1)
    valid &= torch.isfinite(chosen).all(1)
    logprobs, model = chosen.t().tolist()
    return Draw(ids.tolist(), logprobs, model, valid.tolist(), _top(model_logprobs, settings))


def _sample(logits: Tensor, settings: BatchSettings, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    # softmax, not exp of the log-probabilities: it works row by row, while exp treats the batch's last elements differently.
    probabilities = torch.softmax(logits, -1)
    if settings.filtered:
        probabilities[settings.filtered] = _filter(probabilities[settings.filtered], settings)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    valid = torch.isfinite(total) & (total > 0)
    # Strictly below the total, so that the first id whose cumulative probability exceeds the target always exists.
    target = torch.minimum(settings.uniforms(positions) * total, torch.nextafter(total, torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    return ids.clamp_(max=logits.shape[1] - 1), valid


def _filter(probabilities: Tensor, settings: BatchSettings) -> Tensor:
    """Zero what top_k, then top_p, leave out. Ties are broken by id, so exactly k are kept."""
    ordered, order = probabilities.double().sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[1])
    top_k = torch.tensor([k or ordered.shape[1] for k in settings.top_k])
    ordered = ordered.masked_fill(rank >= top_k[:, None], 0)
    before = ordered.cumsum(-1) - ordered
    # Kept: the smallest set whose probability, among what top_k left, reaches top_p. The first is always kept.
    out = (before >= settings.top_p[:, None] * ordered.sum(-1, keepdim=True)) & (settings.top_p[:, None] < 1)
    out |= ordered == 0
    out[:, 0] = False
    return probabilities.masked_fill(torch.zeros_like(out).scatter(1, order, out), 0)


def _top(logprobs: Tensor, settings: BatchSettings) -> list[list[tuple[int, float]]] | None:
    if not settings.most_top_logprobs:
        return None
    values, ids = logprobs.topk(min(settings.most_top_logprobs, logprobs.shape[1]), dim=-1)
    rows = zip(settings.top_logprobs, ids.tolist(), values.tolist(), strict=True)
    return [list(zip(row_ids[:k], row_values[:k], strict=True)) for k, row_ids, row_values in rows]


def _stream(seeds: np.ndarray, indices: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return _mix(_mix(seeds + _GOLDEN) + indices * _INDEX_STRIDE)


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
