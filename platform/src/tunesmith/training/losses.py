"""The policy-gradient losses, and that of supervised fine-tuning, as pure functions of tensors.

Suffixes name axes: K trained tokens of one micro-batch, S sequences (samples) of it. pi is the policy being trained, mu the one
that sampled (its log-probabilities were recorded), ref the base model without adapter. Every function returns its share of
the batch's loss: shares of micro-batches add up to the loss of the whole optimizer batch, because they are divided by
the counts of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.errors import InvalidArgument
from tunesmith.runs.config import LossMethod
from tunesmith.runs.objective import (
    BAND,
    CISPO_MOST,
    DAPO_CLIP,
    GRPO_CLIP,
    GRPO_KL_BETA,
    GSPO_CLIP,
    LOG_RATIO_LIMIT,
    PPO_CLIP,
)


@dataclass(frozen=True)
class LossInput:
    """One micro-batch of trained tokens."""

    logp_K: Tensor
    """log pi of each trained token, with gradient; float32 (float64 in tests)."""
    mu_K: Tensor
    """log mu, recorded at sampling."""
    advantage_K: Tensor
    """Advantage of the token's rollout."""
    sequence_K: Tensor
    """int64 number of the token's sequence within the micro-batch, 0..S-1. Sequences are never split."""
    batch_tokens: int
    """Trained tokens of the whole optimizer batch, those with advantage 0 included."""
    batch_sequences: int
    """Sequences of the whole optimizer batch that have a trained token."""
    reference_K: Tensor | None = None
    """log ref; only where `Loss.needs_reference`."""


@dataclass(frozen=True)
class LossOutput:
    """A share of the loss and what the ratio limits did."""

    loss: Tensor
    """Scalar, with gradient."""
    limited_K: Tensor
    """bool: the token's policy gradient is masked (outside the band), zero (clipped), or has a smaller weight (CISPO)."""


@dataclass(frozen=True)
class Loss:
    """A loss with its settings bound."""

    compute: Callable[[LossInput], LossOutput]
    needs_reference: bool = False
    """True: `LossInput.reference_K` must be given."""


def two_policies(inputs: LossInput) -> LossOutput:
    """Importance-weighted policy gradient, pi against mu, with no third policy.

        r = exp(clamp(log pi - log mu, -10, 10));  w = stopgrad(r) * 1[0.5 <= r <= 5];  L = -(1/N) sum w A log pi

    Source: the weight is CISPO's (MiniMax-M1, arXiv 2506.13585) with IcePop's band as a mask (arXiv 2510.18855).
    Departures: CISPO clips the weight where this masks it; mu is what the engine recorded, so the ratio corrects staleness
    and numerical mismatch at once; N counts the trained tokens of the whole optimizer batch.
    """
    ratio_K = _ratio(inputs.logp_K.detach(), inputs.mu_K)
    inside_K = (ratio_K >= BAND[0]) & (ratio_K <= BAND[1])
    weight_K = torch.where(inside_K, ratio_K, torch.zeros_like(ratio_K))
    loss = -(weight_K * inputs.advantage_K * inputs.logp_K).sum() / inputs.batch_tokens
    return LossOutput(loss, ~inside_K)


def grpo(inputs: LossInput, kl_beta: float = GRPO_KL_BETA) -> LossOutput:
    """Clipped surrogate with a KL penalty to the base model, mean over tokens.

        L = (1/N) sum [ -min(r A, clip(r, 0.8, 1.2) A) + beta (exp(d) - d - 1) ],  d = log ref - log pi

    Source: GRPO (DeepSeekMath, arXiv 2402.03300); the KL estimator is k3 of Schulman's note "Approximating KL divergence".
    Departures: mean over all tokens instead of per sequence, one update per batch with mu in the role of the old policy,
    log-ratio clamped at +-10. `kl_beta` 0 needs no reference.
    """
    policy = _clipped_surrogate(inputs, GRPO_CLIP)
    if kl_beta == 0.0:
        return policy
    if inputs.reference_K is None:
        raise ValueError("GRPO with kl_beta > 0 needs reference_K")
    difference_K = (inputs.reference_K - inputs.logp_K).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    kl = (difference_K.exp() - difference_K - 1).sum() / inputs.batch_tokens
    return LossOutput(policy.loss + kl_beta * kl, policy.limited_K)


def dapo(inputs: LossInput) -> LossOutput:
    """Clipped surrogate with a higher upper bound ("clip-higher"), no KL, mean over tokens.

        L = -(1/N) sum min(r A, clip(r, 0.8, 1.28) A)

    Source: DAPO (arXiv 2503.14476). Departures: no overlong shaping and no re-sampling here (the orchestrator drops constant
    groups); mu in the role of the old policy; log-ratio clamped at +-10.
    """
    return _clipped_surrogate(inputs, DAPO_CLIP)


def gspo_token(inputs: LossInput) -> LossOutput:
    """Clipping by the ratio of the whole sequence, gradient by token; mean over tokens, then over sequences.

        s_i = exp(mean_t(log pi - log mu));  r_t = stopgrad(s_i) * pi_t / stopgrad(pi_t)
        L = -(1/S) sum_i (1/|i|) sum_t min(r_t A, clip(r_t, 1 - 3e-4, 1 + 4e-4) A)

    Source: GSPO, the GSPO-token variant (arXiv 2507.18071, section 4.3). Departures: mu in the role of the old policy;
    log-ratio clamped at +-10.
    """
    sequences = int(inputs.sequence_K.max()) + 1 if inputs.sequence_K.numel() else 0
    zeros_S = inputs.logp_K.new_zeros(sequences)
    length_S = zeros_S.index_add(0, inputs.sequence_K, torch.ones_like(inputs.mu_K))
    log_ratio_K = (inputs.logp_K.detach() - inputs.mu_K).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    mean_S = zeros_S.index_add(0, inputs.sequence_K, log_ratio_K) / length_S
    # exp(logp - stopgrad(logp)) is 1 in value and carries the token's gradient.
    ratio_K = (mean_S[inputs.sequence_K] + inputs.logp_K - inputs.logp_K.detach()).exp()
    objective_K, clipped_K = _pessimistic(ratio_K, inputs.advantage_K, GSPO_CLIP)
    loss = -(objective_K / length_S[inputs.sequence_K]).sum() / inputs.batch_sequences
    return LossOutput(loss, clipped_K)


def cispo(inputs: LossInput) -> LossOutput:
    """Policy gradient whose importance weight is cut from above: every token keeps a gradient.

        w = stopgrad(min(r, 5));  L = -(1/N) sum w A log pi

    Source: CISPO (MiniMax-M1, arXiv 2506.13585, equations 4 and 5; like there, no lower bound). The bound 5 is ScaleRL's (arXiv
    2510.13786). Departures: advantages are scaled by the deviation of the batch, not of the group; mu in the role of
    the old policy; log-ratio clamped at +-10.
    """
    ratio_K = _ratio(inputs.logp_K.detach(), inputs.mu_K)
    loss = -(ratio_K.clamp(max=CISPO_MOST) * inputs.advantage_K * inputs.logp_K).sum() / inputs.batch_tokens
    return LossOutput(loss, ratio_K > CISPO_MOST)


def ppo(inputs: LossInput) -> LossOutput:
    """Clipped surrogate, symmetric, no KL, mean over tokens.

        L = -(1/N) sum min(r A, clip(r, 0.8, 1.2) A)

    Source: PPO (arXiv 1707.06347, equation 7, epsilon 0.2). Departures: no value function (the advantage is relative to the
    rollout's group) and no entropy bonus; one update per batch with mu in the role of the old policy; log-ratio clamped at
    +-10. It is GRPO without its KL term.
    """
    return _clipped_surrogate(inputs, PPO_CLIP)


def reinforce(inputs: LossInput) -> LossOutput:
    """Policy gradient with the importance weight as it is; no limit but that against overflow.

        L = -(1/N) sum r A, whose gradient is -(1/N) sum r A grad log pi

    Source: REINFORCE (Williams, 1992, Machine Learning 8) with the token's importance weight (Off-Policy Actor-Critic, arXiv
    1205.4839). Departures: the baseline is the group's mean score; log-ratio clamped at +-10, beyond which a token has
    no gradient. Its variance grows with staleness; the other losses bound it.
    """
    ratio_K = _ratio(inputs.logp_K, inputs.mu_K)
    log_ratio_K = inputs.logp_K.detach() - inputs.mu_K
    return LossOutput(-(ratio_K * inputs.advantage_K).sum() / inputs.batch_tokens, log_ratio_K.abs() > LOG_RATIO_LIMIT)


def weighted_nll(logp_K: Tensor, weight_K: Tensor, batch_tokens: int) -> Tensor:
    """Weighted negative log-likelihood: L = -(1/N) sum w log p, N = trained tokens of the whole optimizer batch.

    N counts tokens, not weights: a sample of weight 2 pulls twice as hard, a negative one pushes away.
    """
    return -(weight_K * logp_K).sum() / batch_tokens


def loss_for(method: LossMethod, kl_beta: float | None = None) -> Loss:
    """The loss a job named.

    Raises InvalidArgument when `kl_beta` is set for a method that has no KL term, or is negative.
    """
    if kl_beta and method is not LossMethod.GRPO:
        raise InvalidArgument(f"kl_beta must be 0 or unset when the loss is {method}; only GRPO has a KL term.")
    if kl_beta is not None and kl_beta < 0:
        raise InvalidArgument(f"kl_beta is {kl_beta}; it must be 0 or more.")
    if method is LossMethod.GRPO:
        beta = GRPO_KL_BETA if kl_beta is None else kl_beta
        return Loss(lambda inputs: grpo(inputs, beta), needs_reference=beta > 0)
    plain = {
        LossMethod.DEFAULT: two_policies,
        LossMethod.DAPO: dapo,
        LossMethod.GSPO_TOKEN: gspo_token,
        LossMethod.CISPO: cispo,
        LossMethod.PPO: ppo,
        LossMethod.REINFORCE: reinforce,
    }
    return Loss(plain[method])


def _ratio(logp_K: Tensor, mu_K: Tensor) -> Tensor:
    return (logp_K - mu_K).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def _clipped_surrogate(inputs: LossInput, clip: tuple[float, float]) -> LossOutput:
    objective_K, clipped_K = _pessimistic(_ratio(inputs.logp_K, inputs.mu_K), inputs.advantage_K, clip)
    return LossOutput(-objective_K.sum() / inputs.batch_tokens, clipped_K)


def _pessimistic(ratio_K: Tensor, advantage_K: Tensor, clip: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """PPO's min(r A, clip(r) A) (arXiv 1707.06347) and where the clip cut the gradient."""
    objective_K = torch.minimum(ratio_K * advantage_K, ratio_K.clamp(*clip) * advantage_K)
    value_K = ratio_K.detach()
    clipped_K = ((value_K < clip[0]) & (advantage_K < 0)) | ((value_K > clip[1]) & (advantage_K > 0))
    return objective_K, clipped_K
