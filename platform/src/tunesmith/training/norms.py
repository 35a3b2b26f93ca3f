"""RMS normalisation in one autograd node, for the norms whose weights are frozen.

transformers writes the norm out as a power, a mean, a root and two products, and autograd keeps and walks each of them: on a small
model a tenth of a step. Here the forward pass reads x twice, and the backward pass has the formula. A norm gets it only where
it computes the same as its own code on a trial input (Gemma adds 1 to its weights, others keep theirs); the rest stays as it is.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Module

TRIAL_ROWS = 3
TOLERANCE = 1e-5
"""Of the trial, relative to the largest output: another order of the same float32 operations."""


def fuse_norms(model: Module) -> int:
    """Give the fused pass to every RMS norm with frozen float32 weights that it is right for; returns how many."""
    fused = 0
    for module in model.modules():
        weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
        if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or epsilon is None:
            continue
        if weight.dtype is torch.float32 and not weight.requires_grad and _is_plain(module, weight, float(epsilon)):
            module.forward = MethodType(_forward, module)
            fused += 1
    return fused


def _forward(self: Any, hidden_states: Tensor) -> Tensor:
    return _RmsNorm.apply(hidden_states, self.weight, float(self.variance_epsilon))  # pyright: ignore[reportReturnType]


@torch.no_grad()
def _is_plain(module: Module, weight: Tensor, epsilon: float) -> bool:
    rows = torch.arange(TRIAL_ROWS * weight.numel(), dtype=torch.float32, device=weight.device)
    trial = (rows * 0.7).sin().view(TRIAL_ROWS, -1) * 3
    own, ours = module(trial), _normalised(trial, weight, epsilon)[0]
    return own.shape == ours.shape and bool((own - ours).abs().max() <= TOLERANCE * own.abs().max())


def _normalised(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x w / sqrt(mean(x^2) + epsilon) over the last dimension, and 1 / the root, [..., 1]."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return torch.mul(x, inverse).mul_(weight), inverse


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, inverse = _normalised(x, weight, epsilon)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        # With i = 1 / root and g = dy w:  dx = i g - x i^3 mean(g x).
        x, weight, inverse = ctx.saved_tensors
        grad = gradients[0] * weight
        along = (grad * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(x.shape[-1])
        return grad.mul_(inverse).addcmul_(x, along, value=-1), None, None
