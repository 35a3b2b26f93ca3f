"""Loss and gradient of a batch do not depend on how it is computed: packed, one by one, with shared prompts, in any cut and order.

Every loss, on batches as the orchestrator seals them: several turns, rollouts with several samples (forks), completions of one token,
prompts that some rollouts share. The yardstick takes one sample at a time through the architecture's own forward pass.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tunesmith.runs.advantages import batch_advantages
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import LossMethod
from tunesmith.training.losses import LossInput, loss_for
from tunesmith.training.model import Policy
from tunesmith.training.packing import Sequence, Sharing, build_pack, plan_packs, sequences_of

from tests.training.makers import VOCABULARY, policy_of

TEMPERATURE = 0.8
SETTINGS = settings(max_examples=15, deadline=None, derandomize=True)
Result = tuple[float, dict[str, Tensor]]


def conversation(rng: random.Random, prompt: list[int], turns: int, longest: int) -> tuple[list[int], list[int]]:
    """Ids and what was sampled: a prompt, then turns of a sampled answer and something given, the last one sampled."""
    ids, sampled = [*prompt], [0] * len(prompt)
    for turn in range(turns):
        answer = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, longest))]
        given_ids = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 4))] if turn < turns - 1 else []
        ids += [*answer, *given_ids]
        sampled += [1] * len(answer) + [0] * len(given_ids)
    return ids, sampled


def mixed_batch(seed: int, groups: int = 2, n: int = 3) -> Batch:
    """Rollouts of 1 to 3 turns; every third one forked into two samples; the first of each group has one token."""
    rng = random.Random(seed)
    rollouts: list[BatchRollout] = []
    samples: list[Sample] = []
    for group in range(groups):
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12))]
        for k in range(n):
            rollout = len(rollouts)
            rollouts.append(
                BatchRollout(rollout_id=f"{rollout}", row_index=group, group=group, score=rng.random(), version=0)
            )
            for fork in range(1 + (k % 3 == 2)):
                if k == 0:
                    ids, sampled = [*prompt, rng.randrange(VOCABULARY)], [0] * len(prompt) + [1]
                else:
                    begin = prompt if not fork else [*prompt, *(rng.randrange(VOCABULARY) for _ in range(3))]
                    ids, sampled = conversation(rng, begin, rng.randint(1, 3), longest=8)
                samples.append(Sample(ids, sampled, [0.0] * len(ids), rollout))
    header = BatchHeader(
        step=0, epoch=0, temperature=TEMPERATURE, learning_rate=1e-3, evaluator_version="1", rollouts=rollouts
    )
    return Batch(header, samples)


def recorded(policy: Policy, sequences: list[Sequence], seed: int) -> list[Sequence]:
    """With log mu around what the policy says, near and far: every loss has tokens inside and outside its limits."""
    rng = random.Random(seed)
    found = []
    for sequence in sequences:
        logps = own_logprobs(policy, sequence).tolist()
        # Half of the sequences are off by next to nothing, so that GSPO's narrow clip lets some through.
        spread = rng.choice([1e-4, 1.0])
        found.append(replace(sequence, mu=[value + rng.gauss(0, spread) for value in logps]))
    return found


def sequences(policy: Policy, seed: int, **sizes: int) -> list[Sequence]:
    batch = mixed_batch(seed, **sizes)
    advantages = batch_advantages([r.score for r in batch.header.rollouts], [r.group for r in batch.header.rollouts])
    return recorded(policy, sequences_of(batch, advantages, policy.vocabulary), seed)


def own_logprobs(policy: Policy, sequence: Sequence) -> Tensor:
    """One sample through the model's own attention: log-probabilities of its trained tokens, with gradient."""
    policy.base.set_attn_implementation("eager")
    try:
        logits_TV = policy.base(input_ids=torch.tensor([sequence.token_ids]), use_cache=False).logits[0]
    finally:
        policy.base.set_attn_implementation("tunesmith_packed")
    rows = [position - 1 for position in sequence.trained]
    return (logits_TV[rows] / TEMPERATURE).log_softmax(-1).gather(1, torch.tensor(sequence.targets)[:, None])[:, 0]


def gathered(policy: Policy, loss: float) -> Result:
    grads = {name: p.grad for name, p in policy.adapter.items() if p.grad is not None}
    for parameter in policy.adapter.values():
        parameter.grad = None
    assert grads.keys() == policy.adapter.keys()
    return loss, grads


def one_by_one(policy: Policy, found: list[Sequence], method: LossMethod) -> Result:
    function = loss_for(method)
    total = 0.0
    for sequence in found:
        reference = None
        if function.needs_reference:
            with policy.reference():
                reference = own_logprobs(policy, sequence)
        share = function.compute(
            LossInput(
                logp_K=own_logprobs(policy, sequence),
                mu_K=torch.tensor(sequence.mu),
                advantage_K=torch.full((len(sequence.mu),), sequence.advantage),
                sequence_K=torch.zeros(len(sequence.mu), dtype=torch.int64),
                batch_tokens=sum(len(s.targets) for s in found),
                batch_sequences=len(found),
                reference_K=reference,
            )
        )
        share.loss.backward()
        total += float(share.loss.detach())
    return gathered(policy, total)


def packed(policy: Policy, found: list[Sequence], method: LossMethod, budget: int, sharing: Sharing) -> Result:
    function = loss_for(method)
    total = 0.0
    for plans in plan_packs(found, budget, policy.costs, sharing):
        pack = build_pack(plans)
        reference_K = None
        if function.needs_reference:
            with policy.reference():
                reference_K, _ = policy.logprobs(pack, TEMPERATURE)
        logp_K, _ = policy.logprobs(pack, TEMPERATURE)
        share = function.compute(
            LossInput(
                logp_K=logp_K,
                mu_K=pack.mu_K,
                advantage_K=pack.advantage_K,
                sequence_K=pack.sequence_K,
                batch_tokens=sum(len(s.targets) for s in found),
                batch_sequences=len(found),
                reference_K=reference_K,
            )
        )
        share.loss.backward()
        total += float(share.loss.detach())
    return gathered(policy, total)


def assert_same(found: Result, expected: Result) -> None:
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    for name, grad in found[1].items():
        torch.testing.assert_close(
            grad, expected[1][name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def policies(qwen3: Path, llama: Path) -> dict[str, Policy]:
    return {"qwen3": policy_of(qwen3, disturb=0.1), "llama": policy_of(llama, disturb=0.1)}


@pytest.mark.parametrize("method", list(LossMethod))
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_packed_unpacked_and_shared_have_one_loss_and_one_gradient(
    policies: dict[str, Policy], family: str, method: LossMethod
):
    policy = policies[family]
    found = sequences(policy, seed=0)
    assert len({sequence.group for sequence in found}) < len(found)
    expected = one_by_one(policy, found, method)
    assert max(float(grad.abs().max()) for grad in expected[1].values()) > 1e-3  # what is compared is not nothing
    for budget, sharing in ((1, Sharing.NEVER), (16384, Sharing.NEVER), (16384, Sharing.ALWAYS), (64, Sharing.AUTO)):
        assert_same(packed(policy, found, method, budget, sharing), expected)


@SETTINGS
@given(data=st.data())
def test_neither_the_cut_nor_the_order_matters(policies: dict[str, Policy], data: st.DataObject):
    """Any loss, any micro-batch budget from 64 to 16384, any order of the samples of any batch."""
    policy = policies["qwen3"]
    method = data.draw(st.sampled_from(list(LossMethod)))
    seed = data.draw(st.integers(0, 10**6))
    found = sequences(policy, seed, groups=data.draw(st.integers(1, 4)), n=data.draw(st.integers(2, 5)))
    budget = data.draw(st.integers(64, 16384) | st.sampled_from([64, 128, 512, 16384]))
    shuffled = data.draw(st.permutations(found))
    sharing = data.draw(st.sampled_from(Sharing))
    expected = packed(policy, found, method, 16384, Sharing.NEVER)
    assert_same(packed(policy, shuffled, method, budget, sharing), expected)
