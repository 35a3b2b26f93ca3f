"""Nothing leans on one family: each either takes a step on what its own forward computes, or is refused by name at the start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config
from tunesmith.errors import FailedPrecondition
from tunesmith.training.packing import build_pack, plan_packs, sequences_of

from tests.engines.architectures import ARCHITECTURES, WINDOW, write_architecture
from tests.training.makers import logprobs_at, make_batch, policy_of

REFUSED = {
    "gemma-2 with soft caps and a window": "models of type gemma2 with final_logit_softcapping = 30.0 bend their logits",
    "phi-3 with long rotation": "rotary embeddings of type longrope turn every token otherwise once a sequence is longer than 64",
}
"""The architecture, and what the refusal says."""


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in REFUSED])
def test_a_packed_step_is_the_models_own_forward(name: str, tmp_path: Path) -> None:
    """Shared prompts and branches beyond the sliding window; gradients reach every factor of the adapter."""
    policy = policy_of(write_architecture(name, tmp_path), disturb=0.05)
    batch = make_batch(policy, groups=2, n=3, prompt=(WINDOW - 8, WINDOW + 16), completion=(8, 24))
    longest = max(len(sample.token_ids) for sample in batch.samples)
    assert longest > WINDOW + 8
    (plan,) = plan_packs(sequences_of(batch, [1.0] * len(batch.samples), policy.vocabulary), 10**6, policy.costs)
    logp_K, _ = policy.logprobs(build_pack(plan))
    expected = [
        value for sample in batch.samples for value, own in zip(sample.logprobs, sample.sampled, strict=True) if own
    ]
    assert sorted(logp_K.tolist()) == pytest.approx(sorted(expected), abs=1e-4)
    ids = batch.samples[0].token_ids
    assert policy.score(ids) == pytest.approx(logprobs_at(policy, ids, 1.0), abs=1e-4)
    before = policy.adapter_tensors()
    optimizer = torch.optim.AdamW(policy.adapter.values(), lr=1e-3)
    logp_K.mean().neg().backward()
    for path, parameter in policy.adapter.items():
        assert parameter.grad is not None, path
        assert bool(torch.isfinite(parameter.grad).all()), path
        assert bool(parameter.grad.any()), path
    optimizer.step()
    assert all(not torch.equal(before[path], parameter) for path, parameter in policy.adapter.items())
    assert sum(policy.score(ids)) != pytest.approx(sum(logprobs_at(policy_of(tmp_path), ids, 1.0)), abs=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_is_refused_before_the_first_step(name: str, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=REFUSED[name]):
        policy_of(write_architecture(name, tmp_path))


def test_capped_scores_are_trained_where_the_logits_are_not_capped(tmp_path: Path) -> None:
    config = Gemma2Config(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, sliding_window=12,
        num_key_value_heads=2, head_dim=16, pad_token_id=0, attn_logit_softcapping=2.0, final_logit_softcapping=None,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    policy = policy_of(tmp_path, disturb=0.1)
    ids = [3 + i * 7 % 50 for i in range(40)]
    assert policy.score(ids) == pytest.approx(logprobs_at(policy, ids, 1.0), abs=1e-4)
