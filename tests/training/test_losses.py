"""What holds of the losses beyond their formulas (`test_loss_formulas.py`): closed forms at chosen points, shares that add up, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from tunesmith.errors import InvalidArgument
from tunesmith.runs.config import LossMethod
from tunesmith.training.losses import LossInput, dapo, grpo, gspo_token, loss_for, two_policies


def fixed(spread: float = 0.5, *, requires_grad: bool = True) -> LossInput:
    """Three sequences of 4, 3 and 1 tokens, in float64; log-ratios of about `spread`."""
    generator = torch.Generator().manual_seed(5)
    mu_K = -3 * torch.rand(8, generator=generator, dtype=torch.float64)
    logp_K = mu_K + spread * torch.randn(8, generator=generator, dtype=torch.float64)
    reference_K = mu_K + spread * torch.randn(8, generator=generator, dtype=torch.float64)
    return LossInput(
        logp_K=logp_K.requires_grad_(requires_grad),
        mu_K=mu_K,
        advantage_K=torch.tensor([1.2] * 4 + [-0.7] * 3 + [0.4], dtype=torch.float64),
        sequence_K=torch.tensor([0, 0, 0, 0, 1, 1, 1, 2]),
        batch_tokens=8,
        batch_sequences=3,
        reference_K=reference_K,
    )


def gradient(function: Callable[[LossInput], Tensor], inputs: LossInput) -> Tensor:
    (result,) = torch.autograd.grad(function(inputs), inputs.logp_K)
    return result


def finite_differences(function: Callable[[Tensor], Tensor], logp_K: Tensor, h: float = 1e-6) -> Tensor:
    logp_K = logp_K.detach()
    unit = torch.eye(len(logp_K), dtype=logp_K.dtype)
    return torch.stack([(function(logp_K + h * e) - function(logp_K - h * e)) / (2 * h) for e in unit])


def test_two_policies_closed_form():
    log_ratio = [math.log(0.49), math.log(0.5001), 0.0, math.log(4.99), math.log(5.01), 30.0]
    logp_K = torch.tensor([-1.0] * 6, dtype=torch.float64, requires_grad=True)
    mu_K = logp_K.detach() - torch.tensor(log_ratio, dtype=torch.float64)
    advantage_K = torch.tensor([1.0, -2.0, 3.0, 0.5, 9.0, 9.0], dtype=torch.float64)
    output = two_policies(LossInput(logp_K, mu_K, advantage_K, torch.zeros(6, dtype=torch.int64), 10, 1))
    weight = [0.0, 0.5001, 1.0, 4.99, 0.0, 0.0]
    expected = [-w * a / 10 for w, a in zip(weight, advantage_K.tolist(), strict=True)]
    (found,) = torch.autograd.grad(output.loss, logp_K)
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=0)
    assert float(output.loss.detach()) == pytest.approx(sum(-1.0 * e for e in expected), rel=1e-9)
    assert output.limited_K.tolist() == [True, False, False, False, True, True]


def test_grpo_closed_form_of_its_kl():
    """At pi = mu the surrogate's gradient is -A/N and k3's is beta (1 - exp(ref - pi)) / N."""
    inputs = fixed(0.0)
    reference_K = inputs.logp_K.detach() + torch.linspace(-1, 1, 8, dtype=torch.float64)
    inputs = replace(inputs, reference_K=reference_K)
    found = gradient(lambda i: grpo(i, kl_beta=0.5).loss, inputs)
    expected = (-inputs.advantage_K + 0.5 * (1 - torch.linspace(-1, 1, 8, dtype=torch.float64).exp())) / 8
    torch.testing.assert_close(found, expected)


def test_gspo_token_gradient_equals_finite_differences_of_the_sequence_objective():
    """With one advantage per sequence, GSPO-token has the gradient of GSPO, whose ratio is that of the whole sequence."""
    for spread in (1e-4, 0.5):
        inputs = fixed(spread)

        def objective(logp_K: Tensor, inputs: LossInput = inputs) -> Tensor:
            total = torch.zeros((), dtype=torch.float64)
            for sequence in range(3):
                of_it = inputs.sequence_K == sequence
                ratio = (logp_K[of_it] - inputs.mu_K[of_it]).mean().exp()
                advantage = inputs.advantage_K[of_it][0]
                total -= torch.minimum(ratio * advantage, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantage) / 3
            return total

        assert float(gspo_token(inputs).loss.detach()) == pytest.approx(float(objective(inputs.logp_K.detach())))
        numeric = finite_differences(objective, inputs.logp_K)
        torch.testing.assert_close(gradient(lambda i: gspo_token(i).loss, inputs), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", list(LossMethod))
def test_shares_of_micro_batches_add_up(method: LossMethod):
    inputs = fixed()
    compute = loss_for(method).compute
    cuts = [inputs.sequence_K < 1, inputs.sequence_K >= 1]
    parts = [
        compute(
            replace(
                inputs,
                logp_K=inputs.logp_K[cut],
                mu_K=inputs.mu_K[cut],
                advantage_K=inputs.advantage_K[cut],
                sequence_K=inputs.sequence_K[cut] - inputs.sequence_K[cut].min(),
                reference_K=inputs.reference_K[cut] if inputs.reference_K is not None else None,
            )
        ).loss
        for cut in cuts
    ]
    torch.testing.assert_close(parts[0] + parts[1], compute(inputs).loss)


def test_clip_fractions_count_only_tokens_whose_gradient_is_cut():
    output = dapo(fixed(0.6))
    found = gradient(lambda i: dapo(i).loss, fixed(0.6))
    assert output.limited_K.tolist() == (found == 0).tolist()
    assert 0 < int(output.limited_K.sum()) < 8


def test_the_reference_is_needed_only_where_it_counts():
    assert loss_for(LossMethod.GRPO).needs_reference
    assert not loss_for(LossMethod.GRPO, 0.0).needs_reference
    with pytest.raises(InvalidArgument, match="0 or more"):
        loss_for(LossMethod.GRPO, -0.1)
