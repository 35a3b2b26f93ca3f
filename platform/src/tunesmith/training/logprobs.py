"""Log-probabilities of chosen tokens from hidden states, in float32, without keeping any logits.

The head runs over chunks of rows, only for positions whose next token is trained; where there is more than one chunk, the backward pass
computes each one's logits again, so that memory does not grow with tokens x vocabulary. Gradients of the head's weights are formed only where they are trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 2**24
"""Logits alive at a time: 64 MiB in float32."""


def chosen_logprobs(
    hidden_KH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    target_K: Tensor,
    temperature: float,
    entropy: bool = True,
) -> tuple[Tensor, Tensor]:
    """Log-probability of `target_K` under softmax(logits / temperature), and that distribution's entropy.

    Args:
        hidden_KH: final hidden states (after the last norm), any float type; gradients flow into them.
        weight_VH: float32 head weights; gradients flow into them where they require one.
        bias_V: float32 head bias or None; likewise.
        target_K: int64 token ids.
        temperature: above 0.
        entropy: whether to compute it; False saves a pass over the logits.

    Returns:
        logp_K (float32, differentiable) and entropy_K (float32, in nats, not differentiable; empty if not asked for).
    """
    return _ChosenLogprobs.apply(hidden_KH.float(), weight_VH, bias_V, target_K, temperature, entropy)  # pyright: ignore[reportReturnType]


class _ChosenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_KH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        target_K: Tensor,
        temperature: float,
        with_entropy: bool,
    ):
        logp, entropy, normalizer = [], [hidden_KH.new_empty(0)], []
        # What fits one chunk is kept: a small vocabulary's logits are computed once.
        kept: Tensor | None = None
        keeps = 0 < len(hidden_KH) * weight_VH.shape[0] <= CHUNK_LOGITS and any(ctx.needs_input_grad)
        for hidden, target in _chunks(hidden_KH, target_K, weight_VH.shape[0]):
            logits = _logits(hidden, weight_VH, bias_V, temperature)
            lse = logits.logsumexp(-1)
            logp.append(logits.gather(1, target[:, None])[:, 0] - lse)
            normalizer.append(lse)
            if with_entropy or keeps:
                probabilities = (logits - lse[:, None]).exp_()
                if with_entropy:
                    entropy.append(lse - logits.mul_(probabilities).sum(-1))
                kept = probabilities if keeps else None
        entropy_K = torch.cat(entropy)
        ctx.save_for_backward(hidden_KH, weight_VH, bias_V, target_K, torch.cat(normalizer), kept)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_K)
        return torch.cat(logp), entropy_K

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        grad_logp_K = gradients[0]
        hidden_KH, weight_VH, bias_V, target_K, lse_K, kept_KV = ctx.saved_tensors
        grad_weight = torch.zeros_like(weight_VH) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias_V) if ctx.needs_input_grad[2] else None
        grad_hidden, row = [], 0
        for hidden, target in _chunks(hidden_KH, target_K, weight_VH.shape[0]):
            rows = slice(row, row + hidden.shape[0])
            grad = grad_logp_K[rows, None] / ctx.temperature
            # d log p[target] / d logits = onehot(target) - p, then through the division by the temperature.
            if kept_KV is None:
                probabilities = _logits(hidden, weight_VH, bias_V, ctx.temperature).sub_(lse_K[rows, None]).exp_()
                grad_logits = probabilities.mul_(-grad)
            else:
                grad_logits = kept_KV * -grad
            grad_logits.scatter_add_(1, target[:, None], grad)
            grad_hidden.append(grad_logits @ weight_VH)
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.t(), hidden)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            row = rows.stop
        return torch.cat(grad_hidden), grad_weight, grad_bias, None, None, None


def _logits(hidden: Tensor, weight_VH: Tensor, bias_V: Tensor | None, temperature: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight_VH, bias_V)
    return logits if temperature == 1.0 else logits.div_(temperature)


def _chunks(hidden_KH: Tensor, target_K: Tensor, vocabulary: int):
    rows = max(1, CHUNK_LOGITS // vocabulary)
    return zip(hidden_KH.split(rows), target_K.split(rows), strict=True)
