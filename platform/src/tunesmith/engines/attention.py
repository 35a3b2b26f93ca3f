"""The attention that every model runs here, registered with transformers under `ATTENTION`.

The model is called without a cache and without a mask, always as one sequence of T tokens; the pass in hand (`rows=`) travels
through the model's keyword arguments, knows which tokens belong together, and owns keys and values. Two passes exist:
`PromptPass` (whole prompts behind each other, each causal; PyTorch's scaled_dot_product_attention except for models with a soft
cap on their scores) and `cache.DecodePass` (one token for each of many rows; batched products).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "tunesmith_rows"
PADDING_ROWS = 4
"""Tokens without a meaning at the end of every pass. PyTorch computes the last (elements mod 32) elements of an exp, sin or SiLU
with another, scalar routine, whose last bit may differ: these tokens take that fate upon themselves, for any layer with
at least 8 elements a token. They also keep one row from being computed by matrix-vector kernels."""


class Pass(Protocol):
    """One forward of the model, as its attention layers see it."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Query [T, Hq, D], key [T, Hkv, D] and value [T, Hkv, Dv] of the new tokens; returns [T, Hq, Dv]."""
        ...


class Options:
    """What a layer asks of its attention."""

    __slots__ = ("scaling", "softcap", "window")

    def __init__(self, scaling: float | None, window: int | None, softcap: float | None) -> None:
        self.scaling = scaling
        self.window = window
        self.softcap = softcap


class PromptPass:
    """Prefill or scoring of sequences that lie behind each other, and PADDING_ROWS tokens of nothing; keeps keys and values."""

    def __init__(self, lengths: Sequence[int]) -> None:
        ends = list(itertools.accumulate(lengths))
        self.parts = [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]
        """Where each sequence lies."""
        self.tokens = ends[-1] + PADDING_ROWS
        self.positions = torch.cat([*map(torch.arange, lengths), torch.zeros(PADDING_ROWS, dtype=torch.long)])
        self.longest = max(lengths)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def padded(self, token_ids: Sequence[int]) -> Tensor:
        """The input ids of the pass, [T]."""
        return torch.tensor([*token_ids, *[0] * PADDING_ROWS])

    def keys_and_values(self, part: slice) -> tuple[Tensor, Tensor]:
        """Keys and values of one sequence, [layers, Hkv, tokens, D]."""
        keys, values = (torch.stack([of[part] for of in kept]) for kept in (self._keys, self._values))
        return keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Causal attention within each sequence."""
        if layer != len(self._keys):
            raise ValueError(f"layer {layer} attends out of order or twice: not a plain decoder")
        self._keys.append(key)
        self._values.append(value)
        output = query.new_zeros(self.tokens, query.shape[1], value.shape[-1])
        groups = query.shape[1] // key.shape[1]
        # Heads before tokens, and each key head once for every query head that reads it.
        query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        key, value = key.repeat_interleave(groups, 0)[None], value.repeat_interleave(groups, 0)[None]
        for part in self.parts:
            attended = self._causal(query[None, :, part], key[:, :, part], value[:, :, part], options)
            output[part] = attended[0].transpose(0, 1)
        return output

    @staticmethod
    def _causal(query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        length = query.shape[2]
        windowed = options.window is not None and options.window < length
        if not windowed and options.softcap is None:
            return functional.scaled_dot_product_attention(
                query, key, value, is_causal=length > 1, scale=options.scaling
            )
        positions = torch.arange(length)
        distance = positions[:, None] - positions
        seen = (distance >= 0) & (distance < (options.window or length))
        return masked_attention(query, key, value, additive(seen), options)


def additive(seen: Tensor) -> Tensor:
    """A boolean mask as what is added to the scores: 0 where seen, -inf elsewhere."""
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: Options) -> Tensor:
    """Attention under an additive mask; by hand only where a soft cap comes between product and softmax."""
    if options.softcap is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=options.scaling)
    scaling = options.scaling if options.scaling is not None else query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2) * scaling
    scores = options.softcap * torch.tanh(scores / options.softcap) + mask
    return scores.softmax(-1) @ value


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    rows: Pass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    if rows is None or attention_mask is not None:
        raise ValueError("the model does not hand its keyword arguments to its attention layers")
    for name in ("s_aux", "position_bias"):
        if others.get(name) is not None:
            raise ValueError(f"attention with `{name}` is not supported")
    layer = module.layer_idx
    if not isinstance(layer, int):
        raise ValueError("attention layers without layer_idx")
    if query.shape[0] != 1:
        raise ValueError("the model changes the shape of what its attention layers get")
    options = Options(scaling, sliding_window, softcap)
    attended = rows.attend(layer, query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), options)
    return attended[None], None


AttentionInterface.register(ATTENTION, _attention)
