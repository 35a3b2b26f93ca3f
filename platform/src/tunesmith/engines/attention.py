"""The attention that every model runs here, registered with transformers under `ATTENTION`.

The model is called without a cache and without a mask; the pass in hand (`rows=`) travels through the model's keyword
arguments and owns keys and values. Two passes exist: `PromptPass` (one whole prompt, causal) and `cache.DecodePass` (one
token for each of many rows). Both reach the same kernel, PyTorch's scaled_dot_product_attention, except for models with
a soft cap on their scores.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "tunesmith_rows"


class Pass(Protocol):
    """One forward of the model, as its attention layers see it."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Query [B, Hq, T, D], key and value [B, Hkv, T, D] of the new tokens; returns [B, Hq, T, Dv]."""
        ...


class Options:
    """What a layer asks of its attention."""

    __slots__ = ("scaling", "softcap", "window")

    def __init__(self, scaling: float | None, window: int | None, softcap: float | None) -> None:
        self.scaling = scaling
        self.window = window
        self.softcap = softcap


class PromptPass:
    """Prefill or scoring of one sequence; keeps each layer's keys and values."""

    def __init__(self, length: int) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._positions = torch.arange(length)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Causal attention within the sequence."""
        if layer != len(self.keys):
            raise ValueError(f"layer {layer} attends out of order or twice: not a plain decoder")
        self.keys.append(key[0])
        self.values.append(value[0])
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        length = query.shape[2]
        windowed = options.window is not None and options.window < length
        if not windowed and options.softcap is None:
            return functional.scaled_dot_product_attention(
                query, key, value, is_causal=length > 1, scale=options.scaling
            )
        distance = self._positions[:, None] - self._positions
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
    output = rows.attend(layer, query, key, value, Options(scaling, sliding_window, softcap))
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attention)
