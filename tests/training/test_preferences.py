"""DPO and ORPO against what their papers write, in float64, and against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from tunesmith.errors import InvalidArgument
from tunesmith.runs.config import BaseModelRef
from tunesmith.runs.tuning import TuningConfig, TuningLoss
from tunesmith.training.preferences import PairInput, PairOutput, dpo, orpo, pair_loss_for

CHOSEN = [-12.5, -3.25, -40.0, -7.5, -0.875]
REJECTED = [-11.0, -9.5, -38.75, -7.5, -0.5]
REFERENCE_CHOSEN = [-13.0, -3.0, -44.0, -7.5, -1.0]
REFERENCE_REJECTED = [-10.0, -9.75, -30.0, -7.5, -2.0]
CHOSEN_TOKENS = [10, 3, 25, 5, 1]
REJECTED_TOKENS = [8, 7, 31, 5, 2]
BETA, WEIGHT = 0.3, 0.25


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(chosen: Tensor | None = None, rejected: Tensor | None = None, batch_pairs: int = 5) -> PairInput:
    return PairInput(
        chosen_P=column(CHOSEN) if chosen is None else chosen,
        rejected_P=column(REJECTED) if rejected is None else rejected,
        chosen_tokens_P=torch.tensor(CHOSEN_TOKENS),
        rejected_tokens_P=torch.tensor(REJECTED_TOKENS),
        batch_pairs=batch_pairs,
        reference_chosen_P=column(REFERENCE_CHOSEN),
        reference_rejected_P=column(REFERENCE_REJECTED),
    )


def part(inputs: PairInput, rows: slice) -> PairInput:
    """Some of the pairs, as another micro-batch of the same batch."""
    cut = {name: value[rows] for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    return replace(inputs, **cut)


def config(loss: TuningLoss, **settings: float) -> TuningConfig:
    base = BaseModelRef(name="accounts/local/models/x", path=Path("x"))
    return TuningConfig.model_validate(
        {"job": "j", "loss": loss, "base_model": base, "dataset": "rows.jsonl", **settings}
    )


def dpo_by_hand() -> list[float]:
    """Equation 7: sigmoid of beta times the difference of log-ratios, each ratio written as a quotient of probabilities."""
    losses = []
    for row in range(5):
        won = math.exp(CHOSEN[row]) / math.exp(REFERENCE_CHOSEN[row])
        lost = math.exp(REJECTED[row]) / math.exp(REFERENCE_REJECTED[row])
        losses.append(-math.log(1 / (1 + math.exp(-(BETA * math.log(won) - BETA * math.log(lost))))))
    return losses


def orpo_by_hand() -> list[float]:
    """Equations 3, 6 and 7, with probabilities that are geometric means over tokens."""
    losses = []
    for row in range(5):
        won, lost = math.exp(CHOSEN[row] / CHOSEN_TOKENS[row]), math.exp(REJECTED[row] / REJECTED_TOKENS[row])
        ratio = (won / (1 - won)) / (lost / (1 - lost))
        losses.append(-math.log(won) + WEIGHT * -math.log(1 / (1 + 1 / ratio)))
    return losses


LOSSES: dict[str, tuple[Callable[[PairInput], PairOutput], list[float]]] = {
    "dpo": (lambda inputs: dpo(inputs, BETA), dpo_by_hand()),
    "orpo": (lambda inputs: orpo(inputs, WEIGHT), orpo_by_hand()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_what_the_paper_writes(name: str):
    compute, expected = LOSSES[name]
    output = compute(pairs())
    assert output.loss_P.tolist() == pytest.approx(expected, rel=1e-12)
    assert float(output.loss) == pytest.approx(sum(expected) / 5, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences(name: str):
    compute, _ = LOSSES[name]
    chosen, rejected = column(CHOSEN).requires_grad_(), column(REJECTED).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: compute(pairs(c, r)).loss, (chosen, rejected))


def test_the_gradient_of_dpo_in_closed_form():
    """Section 4 of the paper: each pair weighs beta sigmoid(reward(rejected) - reward(chosen)), up for one, down for the other."""
    chosen, rejected = column(CHOSEN).requires_grad_(), column(REJECTED).requires_grad_()
    output = dpo(pairs(chosen, rejected), BETA)
    output.loss.backward()
    weight = BETA * torch.sigmoid(output.rejected_reward_P - output.chosen_reward_P) / 5
    torch.testing.assert_close(chosen.grad, -weight)
    torch.testing.assert_close(rejected.grad, weight)


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_add_up(name: str):
    compute, _ = LOSSES[name]
    whole = pairs()
    parts = [compute(part(whole, rows)).loss for rows in (slice(0, 1), slice(1, 4), slice(4, 5))]
    torch.testing.assert_close(sum(parts), compute(whole).loss)


def test_an_untrained_policy_has_no_preference():
    inputs = replace(pairs(), reference_chosen_P=column(CHOSEN), reference_rejected_P=column(REJECTED))
    output = dpo(inputs, BETA)
    assert float(output.loss) == pytest.approx(math.log(2))
    assert output.margin_P.tolist() == [0.0] * 5
    assert output.correct_P.tolist() == [0.5] * 5


def test_rewards_and_margins():
    output = dpo(pairs(), BETA)
    assert output.chosen_reward_P.tolist() == pytest.approx([0.15, -0.075, 1.2, 0.0, 0.0375])
    assert output.rejected_reward_P.tolist() == pytest.approx([-0.3, 0.075, -2.625, 0.0, 0.45])
    assert output.correct_P.tolist() == [1.0, 0.0, 1.0, 0.5, 0.0]
    odds = orpo(pairs(), WEIGHT)
    assert odds.chosen_reward_P.tolist() == pytest.approx([-0.3125, -0.8125 / 3, -0.4, -0.375, -0.21875])
    assert not output.margin_P.requires_grad


def test_odds_of_answers_that_are_certain_or_hopeless_stay_finite():
    chosen = torch.tensor([0.0, -1e-9, -3000.0, 0.0, -1e-7], requires_grad=True)
    rejected = torch.tensor([0.0, -2500.0, 0.0, -1e-8, -9.0], requires_grad=True)
    loss = orpo(pairs(chosen, rejected), WEIGHT).loss
    loss.backward()
    assert loss.isfinite()
    for tensor in (chosen, rejected):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 0.5, -0.1, 1.0, float("nan")])
def test_beta_outside_its_range_is_refused(beta: float):
    with pytest.raises(InvalidArgument, match=r"for DPO it must lie between 0 and 0\.5"):
        pair_loss_for(config(TuningLoss.DPO, beta=beta))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_lambda_outside_its_range_is_refused(weight: float):
    with pytest.raises(InvalidArgument, match="orpo_lambda is .*; it must be a number above 0"):
        pair_loss_for(config(TuningLoss.ORPO, orpo_lambda=weight))


def test_a_job_names_its_loss():
    dpo_loss = pair_loss_for(config(TuningLoss.DPO, beta=BETA))
    orpo_loss = pair_loss_for(config(TuningLoss.ORPO, orpo_lambda=WEIGHT))
    assert (dpo_loss.needs_reference, orpo_loss.needs_reference) == (True, False)
    assert float(dpo_loss.compute(pairs()).loss) == pytest.approx(sum(dpo_by_hand()) / 5)
    assert float(orpo_loss.compute(pairs()).loss) == pytest.approx(sum(orpo_by_hand()) / 5)
    with pytest.raises(InvalidArgument, match="SFT is not a loss over pairs"):
        pair_loss_for(config(TuningLoss.SFT))
