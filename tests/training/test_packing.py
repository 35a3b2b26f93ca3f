"""Packed, unpacked and shared-prompt passes are the same function; the planner's promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from tunesmith.errors import FailedPrecondition
from tunesmith.runs.batch import Batch, Sample
from tunesmith.training.model import Policy
from tunesmith.training.packing import Costs, Sequence, Sharing, build_pack, plan_packs, sequences_of

from tests.training.makers import logprobs_at, make_batch, policy_of

COSTS = Costs(token=1e6, pair=2e3)


def sequences(batch: Batch, policy: Policy) -> list[Sequence]:
    """With a different advantage for every rollout."""
    return sequences_of(batch, [0.3 * i - 1 for i in range(len(batch.header.rollouts))], policy.vocabulary)


def run(policy: Policy, found: list[Sequence], budget: int, sharing: Sharing) -> tuple[dict, dict[str, Tensor]]:
    """Log-probabilities by (sequence, trained position) and the gradient of their advantage-weighted mean."""
    tokens = sum(len(sequence.targets) for sequence in found)
    for parameter in policy.adapter.values():
        parameter.grad = None
    by_token = {}
    for plans in plan_packs(found, budget, policy.costs, sharing):
        pack = build_pack(plans)
        logp_K, _ = policy.logprobs(pack, 0.8)
        ((logp_K * pack.advantage_K).sum() / tokens).backward()
        members = [member for plan in plans for tile in plan.tiles for member in tile]
        keys = [(id(member), position) for member in members for position in member.trained]
        by_token |= dict(zip(keys, logp_K.tolist(), strict=True))
    grads = {name: parameter.grad for name, parameter in policy.adapter.items()}
    return by_token, {name: grad for name, grad in grads.items() if grad is not None}


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("shape", ["plain", "gaps", "one token", "long prompt", "uneven"])
def test_packed_unpacked_and_shared_are_equal(request: pytest.FixtureRequest, family: str, shape: str):
    policy = policy_of(request.getfixturevalue(family), disturb=0.1)
    ranges = {
        "plain": {},
        "gaps": {"gaps": True, "completion": (5, 12)},
        "one token": {"completion": (1, 2)},
        "long prompt": {"prompt": (60, 70), "completion": (1, 6)},
        "uneven": {"completion": (1, 60), "n": 6},
    }[shape]
    batch = make_batch(policy, **ranges)
    found = sequences(batch, policy)

    # The oracle: one unpadded sample at a time through the architecture's own attention.
    own = {}
    for sequence, sample in zip(found, batch.samples, strict=True):
        own |= {(id(sequence), t): logprobs_at(policy, sample.token_ids, 0.8)[t - 1] for t in sequence.trained}
    reference, reference_grads = run(policy, found, budget=1, sharing=Sharing.NEVER)
    assert reference == pytest.approx(own, abs=1e-5)
    assert max(float(grad.abs().max()) for grad in reference_grads.values()) > 1e-2  # what is compared is not nothing

    for sharing in Sharing:
        for budget in (1, 50, 10_000):
            logps, grads = run(policy, found, budget, sharing)
            assert logps == pytest.approx(reference, abs=1e-5)
            for name, grad in grads.items():
                torch.testing.assert_close(grad, reference_grads[name], rtol=1e-5, atol=1e-5)


def test_masked_tokens_get_no_gradient(qwen3: Path):
    """Changing what was recorded for given tokens, or their number behind the last sampled one, changes nothing."""
    policy = policy_of(qwen3, disturb=0.1)
    batch = make_batch(policy, gaps=True, completion=(6, 9))
    trailing = Batch(
        batch.header,
        [
            Sample(
                [*s.token_ids, 3, 4],
                [*s.sampled, 0, 0],
                [
                    *(value if sampled else -9.0 for value, sampled in zip(s.logprobs, s.sampled, strict=True)),
                    -9.0,
                    -9.0,
                ],
                s.rollout,
            )
            for s in batch.samples
        ],
    )
    _, expected = run(policy, sequences(batch, policy), 10_000, Sharing.AUTO)
    _, found = run(policy, sequences(trailing, policy), 10_000, Sharing.AUTO)
    for name, grad in found.items():
        assert torch.equal(grad, expected[name])
    # And only positions whose next token is trained reach the head.
    (plans,) = plan_packs(sequences(batch, policy), 10_000, policy.costs)
    pack = build_pack(plans)
    assert len(pack.target_K) == len(pack.row_K) == sum(sum(s.sampled) for s in batch.samples)


def make(prompt: int, branches: list[int], group: int = 0) -> list[Sequence]:
    return [
        Sequence(
            [5] * (prompt + b), prompt, list(range(prompt, prompt + b + 1)), [5] * (b + 1), [0.0] * (b + 1), 0.0, group
        )
        for b in branches
    ]


def test_every_sequence_is_planned_once_within_the_budget():
    found = [s for group in range(5) for s in make(20 + group, [3, 50, 7, 7, 0, 12], group)] + make(500, [40], 9)
    for sharing in Sharing:
        packs = plan_packs(found, 200, COSTS, sharing)
        planned = [id(s) for plans in packs for plan in plans for tile in plan.tiles for s in tile]
        assert sorted(planned) == sorted(id(s) for s in found)
        for plans in packs:
            tokens = sum(plan.tokens for plan in plans)
            assert tokens == len(build_pack(plans).token_ids_T)
            assert tokens <= 200 or len(planned) == 1 or plans[0].tiles[0][0].prompt == 500


def test_a_prompt_is_shared_where_that_is_cheaper():
    def shares(members: list[Sequence], costs: Costs = COSTS) -> bool:
        return all(plan.shared for plans in plan_packs(members, 10**9, costs) for plan in plans)

    assert shares(make(50, [46] * 8))
    assert not shares(make(50, [46]))
    # One token of prompt saved four times does not pay for looking it up from 3000-token branches where attention dominates.
    assert not shares(make(1, [3000, 2990, 2980, 2970]), Costs(token=1.0, pair=1.0))
    # A mask over two very long samples would not fit: they go without.
    assert not shares(make(50, [9000, 9000]))


def test_prompts_are_shared_only_within_a_group_and_when_equal():
    found = make(30, [5, 5], group=0) + make(30, [5, 5], group=1) + make(31, [5, 5], group=0)
    packs = plan_packs(found, 10**6, COSTS, Sharing.ALWAYS)
    assert sorted(plan.tokens for plans in packs for plan in plans) == [40, 40, 41]


def test_plans_are_deterministic():
    found = [s for group in range(4) for s in make(20, [3, 50, 7, 7, 1], group)]
    assert plan_packs(found, 100, COSTS) == plan_packs(list(found), 100, COSTS)


def test_batches_that_cannot_be_trained_say_why(qwen3: Path):
    policy = policy_of(qwen3)
    header = make_batch(policy, groups=1, n=1).header

    def attempt(sample: Sample) -> None:
        sequences_of(Batch(header, [sample]), [0.0], policy.vocabulary)

    with pytest.raises(FailedPrecondition, match="Sample 0 of batch 0 begins with a sampled token"):
        attempt(Sample([1, 2], [1, 1], [0.0, 0.0], 0))
    with pytest.raises(FailedPrecondition, match="outside the base model's vocabulary of 61"):
        attempt(Sample([1, 61], [0, 1], [0.0, 0.0], 0))
    with pytest.raises(FailedPrecondition, match="Batch 0 has no sampled token"):
        attempt(Sample([1, 2], [0, 0], [0.0, 0.0], 0))
