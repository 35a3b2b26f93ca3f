"""The losses over pairs, as pure functions of tensors: DPO and ORPO.

Suffix P names the pairs of one micro-batch. pi is the policy being trained, ref the model before training. Every function
returns its share of the batch's loss: shares of micro-batches add up to the loss of the whole optimizer batch, because they
are divided by its number of pairs. Pairs are never split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tunesmith.errors import InvalidArgument
from tunesmith.runs.tuning import TuningConfig, TuningLoss

BETA_LIMIT = 0.5
"""DPO's beta lies strictly between 0 and this (the documented range)."""
MEAN_LOGP_LIMIT = -1e-6
"""Mean log-probabilities are held below it in the odds: the odds of a certain answer are infinite."""


@dataclass(frozen=True)
class PairInput:
    """One micro-batch of pairs. Log-probabilities are summed over the tokens of an answer; float32 (float64 in tests)."""

    chosen_P: Tensor
    """log pi of the preferred answers, with gradient."""
    rejected_P: Tensor
    """log pi of the others, with gradient."""
    chosen_tokens_P: Tensor
    """Number of tokens of each preferred answer, at least 1."""
    rejected_tokens_P: Tensor
    batch_pairs: int
    """Pairs of the whole optimizer batch."""
    reference_chosen_P: Tensor | None = None
    """log ref; only where `PairLoss.needs_reference`."""
    reference_rejected_P: Tensor | None = None


@dataclass(frozen=True)
class PairOutput:
    """A share of the loss, and what it says about each pair (without gradient)."""

    loss: Tensor
    """Scalar, with gradient."""
    loss_P: Tensor
    """Of each pair, not divided by anything."""
    chosen_reward_P: Tensor
    rejected_reward_P: Tensor

    @property
    def margin_P(self) -> Tensor:
        """Reward of the preferred answer less that of the other."""
        return self.chosen_reward_P - self.rejected_reward_P

    @property
    def correct_P(self) -> Tensor:
        """1 where the margin is positive, 1/2 where it is 0 (an untrained model has no preference), else 0."""
        return (self.margin_P.sign() + 1) / 2


@dataclass(frozen=True)
class PairLoss:
    """A loss with its settings bound."""

    compute: Callable[[PairInput], PairOutput]
    needs_reference: bool
    """True: log-probabilities of the reference must be given."""


def dpo(inputs: PairInput, beta: float) -> PairOutput:
    """Direct preference optimization, the sigmoid loss.

        reward = beta (log pi - log ref);  L = -(1/N) sum log sigmoid(reward(chosen) - reward(rejected))

    Source: Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), equations 5 and 7. Departures: none; no label
    smoothing, N counts the pairs of the whole optimizer batch, prompt tokens belong to neither answer.
    """
    if inputs.reference_chosen_P is None or inputs.reference_rejected_P is None:
        raise ValueError("DPO needs the log-probabilities of the reference")
    chosen_P = beta * (inputs.chosen_P - inputs.reference_chosen_P)
    rejected_P = beta * (inputs.rejected_P - inputs.reference_rejected_P)
    loss_P = -logsigmoid(chosen_P - rejected_P)
    return PairOutput(loss_P.sum() / inputs.batch_pairs, loss_P.detach(), chosen_P.detach(), rejected_P.detach())


def orpo(inputs: PairInput, weight: float) -> PairOutput:
    """Odds ratio preference optimization: likelihood of the chosen answer, and its odds against the other. No reference.

        l = mean over tokens of log pi;  odds = e^l / (1 - e^l)
        L = (1/N) sum [ -l(chosen) - weight log sigmoid(log odds(chosen) - log odds(rejected)) ];  reward = weight l

    Source: Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model" (arXiv 2403.07691), equations 3, 6 and
    7; `weight` is its lambda. Departures: l is held below -1e-6 in the odds; N counts the pairs of the whole optimizer
    batch. Unlike TRL, the likelihood is that of the answer's tokens alone, as in the paper, and averaged by pair.
    """
    chosen_P = inputs.chosen_P / inputs.chosen_tokens_P
    rejected_P = inputs.rejected_P / inputs.rejected_tokens_P
    loss_P = -chosen_P - weight * logsigmoid(_log_odds(chosen_P) - _log_odds(rejected_P))
    rewards = (weight * chosen_P.detach(), weight * rejected_P.detach())
    return PairOutput(loss_P.sum() / inputs.batch_pairs, loss_P.detach(), *rewards)


def pair_loss_for(config: TuningConfig) -> PairLoss:
    """The loss a job named.

    Raises InvalidArgument when it is not one over pairs, or its strength is outside its range.
    """
    if config.loss is TuningLoss.DPO:
        if not 0 < config.beta < BETA_LIMIT:
            raise InvalidArgument(
                f"beta is {config.beta:g}; for DPO it must lie between 0 and {BETA_LIMIT:g}, both excluded."
            )
        return PairLoss(lambda inputs: dpo(inputs, config.beta), needs_reference=True)
    if config.loss is TuningLoss.ORPO:
        if not 0 < config.orpo_lambda < float("inf"):
            raise InvalidArgument(f"orpo_lambda is {config.orpo_lambda:g}; it must be a number above 0.")
        return PairLoss(lambda inputs: orpo(inputs, config.orpo_lambda), needs_reference=False)
    raise InvalidArgument(f"{config.loss} is not a loss over pairs; use DPO or ORPO.")


def _log_odds(mean_P: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = e^mean, for mean below 0."""
    held_P = mean_P.clamp(max=MEAN_LOGP_LIMIT)
    return held_P - torch.log(-torch.expm1(held_P))
