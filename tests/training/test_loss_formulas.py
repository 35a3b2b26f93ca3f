"""Every loss against its paper's formula, written out again in numpy, and its gradient against finite differences of that formula.

The formulas of GRPO, DAPO, GSPO_TOKEN, CISPO and PPO are those that TRL 1.16's GRPO trainer computes (its `loss_type` and options stand
beside them); the others are closed forms. What a loss takes as a constant is a second argument, so that differences are taken
of the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tunesmith.errors import InvalidArgument
from tunesmith.runs.config import LearnerConfig, LossMethod
from tunesmith.runs.objective import loss_numbers
from tunesmith.training.losses import LossInput, loss_for

Floats = NDArray[np.float64]


@dataclass
class Tokens:
    """Five sequences of 4, 3, 1, 6 and 2 tokens."""

    logp: Floats
    mu: Floats
    reference: Floats
    advantage: Floats
    sequence: NDArray[np.int64]

    @classmethod
    def drawn(cls, spread: float, seed: int = 0) -> Tokens:
        """Log-ratios of about `spread`; advantages of both signs, and a 0."""
        rng = np.random.default_rng(seed)
        lengths = [4, 3, 1, 6, 2]
        count = sum(lengths)
        mu = -3 * rng.random(count)
        return cls(
            logp=mu + spread * rng.standard_normal(count),
            mu=mu,
            reference=mu + spread * rng.standard_normal(count),
            advantage=np.repeat([1.2, -0.7, 0.4, -1.5, 0.0], lengths),
            sequence=np.repeat(np.arange(5), lengths),
        )

    def as_input(self) -> LossInput:
        return LossInput(
            logp_K=torch.tensor(self.logp, requires_grad=True),
            mu_K=torch.tensor(self.mu),
            advantage_K=torch.tensor(self.advantage),
            sequence_K=torch.tensor(self.sequence),
            batch_tokens=len(self.mu),
            batch_sequences=5,
            reference_K=torch.tensor(self.reference),
        )


def surrogate(ratio: Floats, advantage: Floats, low: float, high: float) -> Floats:
    """-min(r A, clip(r) A), by cases instead of by minimum."""
    lost = np.where(advantage >= 0, np.where(ratio > high, high, ratio), np.where(ratio < low, low, ratio))
    return -lost * advantage


def token_mean(each: Floats) -> float:
    return float(each.sum() / each.size)


def masked(t: Tokens, logp: Floats, constant: Floats) -> float:
    weight = np.exp(constant - t.mu)
    weight[(weight < 0.5) | (weight > 5)] = 0
    return token_mean(-weight * t.advantage * logp)


def grpo(beta: float) -> Callable[[Tokens, Floats, Floats], float]:
    """loss_type="bnpo", epsilon 0.2, beta."""

    def formula(t: Tokens, logp: Floats, constant: Floats) -> float:
        apart = t.reference - logp
        k3 = np.exp(apart) - apart - 1
        return token_mean(surrogate(np.exp(logp - t.mu), t.advantage, 0.8, 1.2) + beta * k3)

    return formula


def dapo(t: Tokens, logp: Floats, constant: Floats) -> float:
    """loss_type="dapo", epsilon 0.2, epsilon_high 0.28, beta 0."""
    return token_mean(surrogate(np.exp(logp - t.mu), t.advantage, 0.8, 1.28))


def ppo(t: Tokens, logp: Floats, constant: Floats) -> float:
    """loss_type="dapo", epsilon 0.2, beta 0."""
    return token_mean(surrogate(np.exp(logp - t.mu), t.advantage, 0.8, 1.2))


def cispo(t: Tokens, logp: Floats, constant: Floats) -> float:
    """loss_type="cispo", epsilon_high 5."""
    return token_mean(-np.minimum(np.exp(constant - t.mu), 5) * t.advantage * logp)


def reinforce(t: Tokens, logp: Floats, constant: Floats) -> float:
    return token_mean(-np.exp(logp - t.mu) * t.advantage)


def gspo_token(t: Tokens, logp: Floats, constant: Floats) -> float:
    """importance_sampling_level="sequence_token", loss_type="grpo", epsilon 3e-4, epsilon_high 4e-4, beta 0."""
    means = []
    for number in range(5):
        own = t.sequence == number
        ratio = np.exp((constant - t.mu)[own].mean()) * np.exp(logp[own] - constant[own])
        means.append(surrogate(ratio, t.advantage[own], 1 - 3e-4, 1 + 4e-4).mean())
    return float(np.mean(means))


FORMULAS = {
    (LossMethod.DEFAULT, None): masked,
    (LossMethod.GRPO, None): grpo(0.001),
    (LossMethod.GRPO, 0.04): grpo(0.04),
    (LossMethod.GRPO, 0.0): grpo(0.0),
    (LossMethod.DAPO, None): dapo,
    (LossMethod.GSPO_TOKEN, None): gspo_token,
    (LossMethod.CISPO, None): cispo,
    (LossMethod.PPO, None): ppo,
    (LossMethod.REINFORCE, None): reinforce,
}


def test_every_loss_has_a_formula_here():
    assert {method for method, _ in FORMULAS} == set(LossMethod)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.1, 0.6, 2.0])
@pytest.mark.parametrize(("method", "beta"), FORMULAS)
def test_value_and_gradient(method: LossMethod, beta: float | None, spread: float, seed: int):
    tokens = Tokens.drawn(spread, seed)
    formula = FORMULAS[method, beta]
    inputs = tokens.as_input()
    loss = loss_for(method, beta).compute(inputs).loss
    (found,) = torch.autograd.grad(loss, inputs.logp_K)

    h = 1e-6
    slopes = [
        (formula(tokens, tokens.logp + h * unit, tokens.logp) - formula(tokens, tokens.logp - h * unit, tokens.logp))
        / (2 * h)
        for unit in np.eye(len(tokens.mu))
    ]
    assert float(loss.detach()) == pytest.approx(formula(tokens, tokens.logp, tokens.logp), rel=1e-12, abs=1e-14)
    assert found.tolist() == pytest.approx(slopes, rel=1e-6, abs=1e-8)
    assert max(map(abs, slopes)) > 1e-2  # what is compared is not nothing


@pytest.mark.parametrize("method", list(LossMethod))
def test_a_ratio_beyond_all_limits_stays_finite(method: LossMethod):
    tokens = Tokens.drawn(0.1)
    tokens.logp = tokens.mu + np.linspace(-500, 500, len(tokens.mu))
    inputs = tokens.as_input()
    output = loss_for(method).compute(inputs)
    (found,) = torch.autograd.grad(output.loss, inputs.logp_K)
    assert torch.isfinite(output.loss)
    assert torch.isfinite(found).all()
    assert output.limited_K.any()


@pytest.mark.parametrize("method", list(LossMethod))
def test_what_counts_as_limited(method: LossMethod):
    """A token is limited where its gradient is not that of the unlimited policy gradient, r A (sequences' mean ratio: GSPO_TOKEN)."""
    tokens = Tokens.drawn(1.5, seed=3)
    tokens.advantage[tokens.advantage == 0] = 0.3
    inputs = tokens.as_input()
    output = loss_for(method, 0.0).compute(inputs)
    (found,) = torch.autograd.grad(output.loss, inputs.logp_K)
    log_ratio = tokens.logp - tokens.mu
    share = np.full(len(log_ratio), 1 / len(log_ratio))
    if method is LossMethod.GSPO_TOKEN:
        own = [tokens.sequence == number for number in tokens.sequence]
        log_ratio = np.array([log_ratio[mine].mean() for mine in own])
        share = np.array([1 / 5 / mine.sum() for mine in own])
    unlimited = -np.exp(log_ratio) * tokens.advantage * share
    differs = ~np.isclose(found.numpy(), unlimited, rtol=1e-9, atol=0)
    assert output.limited_K.tolist() == differs.tolist()
    assert differs.any() is np.bool_(method is not LossMethod.REINFORCE)


@pytest.mark.parametrize("method", [method for method in LossMethod if method is not LossMethod.GRPO])
def test_kl_beta_is_refused_where_there_is_no_kl(method: LossMethod):
    with pytest.raises(InvalidArgument, match=f"kl_beta must be 0 or unset when the loss is {method}"):
        loss_for(method, 0.1)
    assert not loss_for(method, 0.0).needs_reference


@pytest.mark.parametrize("method", list(LossMethod))
def test_the_stated_numbers_name_the_method(method: LossMethod):
    numbers = loss_numbers(LearnerConfig(loss=method))
    assert numbers["method"] == method
    assert numbers.get("kl_beta") == (0.001 if method is LossMethod.GRPO else None)
