"""The commonest decoders (Llama, Mistral, Qwen 2 and 3, Phi-3) without their own Python: a third of the tensor operations.

A small model spends most of a step outside its matrix products: forty module calls and as many small operations a layer. Here
query, key and value are one product, gate and up another, the rotation is read from a table, and residuals are added by the product
itself. Every other architecture runs its own forward; what comes out is compared with transformers before serving (`trial.py`) either way.

The fused matrices take the place of the model's own: the weights of its linear layers become views of them, so nothing is kept twice.

Suffixes: T tokens (rows), H query heads, G key heads, D head size, F width of the MLP, M width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, silu
from transformers import PreTrainedModel

from tunesmith.engines.attention import Options, Pass

MODEL_TYPES = ("llama", "mistral", "phi3", "qwen2", "qwen3")
STATELESS_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on how long the longest sequence of the batch is."""


def positions_stand_alone(module: PreTrainedModel) -> bool:
    """Whether a position's rotation does not depend on the longest sequence of the batch."""
    rope = getattr(module.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [part.get("rope_type", "default") for part in (rope, *rope.values()) if isinstance(part, dict)]
    return all(kind in STATELESS_ROPES for kind in kinds)


@dataclass(frozen=True)
class _Fused:
    """One product in the place of several linear layers."""

    weight: Tensor
    """[inputs, sum of the outputs]: with few rows up to a fifth faster than the other way round."""
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual`, with the product of x added in place."""
        residual.addmm_(x, self.weight)
        return residual if self.bias is None else residual.add_(self.bias)


@dataclass(frozen=True)
class _Layer:
    options: Options
    input_norm: Tensor
    qkv: _Fused
    head_norm: Tensor | None
    """[H + G, D]: what queries and keys are multiplied with after their own normalisation (Qwen 3)."""
    output: _Fused
    mlp_norm: Tensor
    gate_up: _Fused
    down: _Fused


class _Rotation:
    """cos and sin of every position, as the model computes them; grows with the longest position asked for."""

    def __init__(self, rotary: nn.Module) -> None:
        self._rotary = rotary
        self._cos_ND = self._sin_ND = torch.empty(0)

    def at(self, positions_T: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """cos and sin, each [T, 1, D], the sines of the first half negated. No position is `most` or more."""
        if most > len(self._cos_ND):
            count = 1 << (most - 1).bit_length()
            cos, sin = self._rotary(torch.empty(0), torch.arange(count)[None])
            sin[..., : sin.shape[-1] // 2].neg_()  # what a head's first half gets of its second
            self._cos_ND, self._sin_ND = cos[0].contiguous(), sin[0].contiguous()
        return self._cos_ND[positions_T][:, None], self._sin_ND[positions_T][:, None]


class PlainDecoder:
    """The forward of one model, or of one adapter merged into it."""

    def __init__(self, module: PreTrainedModel, options: Sequence[Options], base: PlainDecoder | None) -> None:
        model: Any = module.model
        config = module.config
        self._heads = config.num_attention_heads
        self._key_heads = config.num_key_value_heads
        self._width = model.layers[0].self_attn.head_dim
        self._eps = torch.tensor(config.rms_norm_eps)
        self._embedding = model.embed_tokens.weight
        self._norm = model.norm.weight
        self._head: Any = module.get_output_embeddings()
        self._rotation = base._rotation if base else _Rotation(model.rotary_emb)
        self.options = options
        self._layers = [
            self._layer(layer, options[i], base._layers[i] if base else None) for i, layer in enumerate(model.layers)
        ]

    @classmethod
    def of(cls, module: PreTrainedModel, base: PlainDecoder | None = None) -> PlainDecoder | None:
        """The plain form of a model, or None where it has none. `base`: of the model that `module` is a copy of."""
        if base is not None:
            return cls(module, base.options, base)
        config = module.config
        plain = (
            config.model_type in MODEL_TYPES
            and config.hidden_act in ("silu", "swish")
            and positions_stand_alone(module)
            and ((config.rope_parameters or {}).get("partial_rotary_factor") or 1.0) == 1.0
        )
        if not plain:
            return None
        recorder = _OptionsOf()
        with torch.inference_mode():
            module(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False, rows=recorder)
        return cls(module, recorder.options, None)

    def hidden(self, ids_T: Tensor, positions_T: Tensor, most: int, rows: Pass, keep: Tensor | None = None) -> Tensor:
        """What the head reads of the tokens `keep` (None = all), [T, M], before the last norm. No position is `most` or more.

        A prompt pass takes its tokens as one sequence, a decode pass as one token for each row; `rows` attends.
        """
        cos_T1D, sin_T1D = self._rotation.at(positions_T, most)
        x_TM = embedding(ids_T, self._embedding)
        both, heads, width = self._heads + self._key_heads, self._heads, self._width
        for number, layer in enumerate(self._layers):
            normed_TM = _rms_normed(x_TM, self._eps).mul_(layer.input_norm)
            qkv = layer.qkv(normed_TM).view(len(x_TM), both + self._key_heads, width)
            qk = qkv[:, :both]
            if layer.head_norm is not None:
                qk = _rms_normed(qk, self._eps).mul_(layer.head_norm)
            qk = _rotated(qk, cos_T1D, sin_T1D)
            attended = rows.attend(number, qk[:, :heads], qk[:, heads:], qkv[:, both:], layer.options)
            attended = attended.reshape(len(x_TM), heads * width)
            if keep is not None and number == len(self._layers) - 1:  # nobody reads more of the other tokens
                x_TM, attended = x_TM[keep], attended[keep]
            x_TM = layer.output.added_to(x_TM, attended)
            normed_TM = _rms_normed(x_TM, self._eps).mul_(layer.mlp_norm)
            gate_TF, up_TF = layer.gate_up(normed_TM).chunk(2, -1)
            x_TM = layer.down.added_to(x_TM, silu(gate_TF).mul_(up_TF))
        return x_TM

    def logits(self, hidden_TM: Tensor) -> Tensor:
        """[T, vocabulary] of what `hidden` gave."""
        normed_TM = _rms_normed(hidden_TM, self._eps).mul_(self._norm)
        return linear(normed_TM, self._head.weight, self._head.bias)

    def _layer(self, layer: Any, options: Options, base: _Layer | None) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        if hasattr(attention, "qkv_proj"):  # Phi-3 fuses by itself
            qkv = [attention.qkv_proj]
            gate_up = [mlp.gate_up_proj]
        else:
            qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
            gate_up = [mlp.gate_proj, mlp.up_proj]
        head_norm = None
        if hasattr(attention, "q_norm"):
            head_norm = torch.cat(
                [attention.q_norm.weight.expand(self._heads, -1), attention.k_norm.weight.expand(self._key_heads, -1)]
            )
        return _Layer(
            options=options,
            input_norm=layer.input_layernorm.weight,
            qkv=_fused(qkv, base.qkv if base else None),
            head_norm=head_norm,
            output=_fused([attention.o_proj], base.output if base else None),
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=_fused(gate_up, base.gate_up if base else None),
            down=_fused([mlp.down_proj], base.down if base else None),
        )


class _OptionsOf:
    """A pass that computes nothing and notes what each layer asks for."""

    def __init__(self) -> None:
        self.options: list[Options] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        self.options.append(options)
        return query


def _rotated(x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """Each half of a head turned against the other (RoFormer, Su et al. 2021, in the halves that Llama uses)."""
    return (x_THD * cos_T1D).addcmul_(x_THD.roll(x_THD.shape[-1] // 2, -1), sin_T1D)


def _rms_normed(x: Tensor, eps: Tensor) -> Tensor:
    """x over the root of the mean of its squares in the last dimension, plus eps (Zhang and Sennrich 2019); the caller's to change."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.addcmul(eps, norm, norm, value=1 / x.shape[-1]).rsqrt_()


def _fused(linears: list[nn.Linear], base: _Fused | None) -> _Fused:
    """One product for several layers, whose weights become views of it; the base's own where none of them differs."""
    starts = [0]
    for part in linears:
        starts.append(starts[-1] + part.out_features)
    if base is not None:
        own = [
            part.weight.data_ptr() != base.weight[:, at].data_ptr() for part, at in zip(linears, starts, strict=False)
        ]
        if not any(own):
            return base
    else:
        own = [True] * len(linears)
    weight = torch.cat([part.weight.t() for part in linears], 1).contiguous()
    for part, start, end, changed in zip(linears, starts, starts[1:], own, strict=False):
        if changed:
            part.weight = nn.Parameter(weight[:, start:end].t(), requires_grad=False)
    if linears[0].bias is None:
        return _Fused(weight, None)
    return _Fused(weight, base.bias if base else torch.cat([part.bias for part in linears]))
