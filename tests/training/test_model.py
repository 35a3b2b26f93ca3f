"""The policy: what is trained, that its passes equal peft's and the base model's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.training import attention
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import build_pack, plan_packs, sequences_of
from tunesmith.training.publish import canary, publish

from tests.training.makers import VOCABULARY, logprobs_at, make_batch, policy_of, write_base

IDS = [3, 14, 15, 9, 26, 5, 35, 8, 58]


def put(run_dir: Path, version: int, policy: Policy) -> Path:
    return publish(run_dir, version, policy, canary(policy))


def test_every_linear_layer_but_the_head_has_a_float32_adapter(llama: Path):
    policy = policy_of(llama)
    layers = {name.rsplit(".lora_", 1)[0].removeprefix("base_model.model.") for name in policy.adapter}
    linear = {
        n for n, m in AutoModelForCausalLM.from_pretrained(llama).named_modules() if isinstance(m, torch.nn.Linear)
    }
    assert layers == linear - {"lm_head"}
    assert all(p.dtype == torch.float32 and p.requires_grad for p in policy.adapter.values())
    trainable = {id(p) for p in policy.model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in policy.adapter.values()}


def test_the_initial_adapter_has_no_effect_and_comes_from_the_seed(qwen3: Path):
    first, again = policy_of(qwen3), policy_of(qwen3)
    assert all(torch.equal(p, q) for p, q in zip(first.adapter.values(), again.adapter.values(), strict=True))
    with_adapter = first.score(IDS)
    with first.reference():
        assert first.score(IDS) == with_adapter


def test_the_reference_is_the_base_model(qwen3: Path):
    base, policy = policy_of(qwen3), policy_of(qwen3, disturb=0.2)
    assert policy.score(IDS) != pytest.approx(base.score(IDS), abs=0.1)
    with policy.reference():
        assert policy.score(IDS) == base.score(IDS)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_score_equals_the_models_own_forward(request: pytest.FixtureRequest, family: str):
    policy = policy_of(request.getfixturevalue(family), disturb=0.1)
    assert policy.score(IDS) == pytest.approx(logprobs_at(policy, IDS, 1.0), abs=1e-5)


def test_the_fused_pass_equals_pefts(qwen3: Path):
    policy = policy_of(qwen3, disturb=0.1)
    pack = build_pack(plan_packs(sequences_of(make_batch(policy), [1.0] * 12, VOCABULARY), 10**6, policy.costs)[0])

    def run() -> list[torch.Tensor]:
        logp_K, _ = policy.logprobs(pack, 1.0)
        return [logp_K, *torch.autograd.grad(logp_K.mean(), list(policy.adapter.values()))]

    fused = run()
    layers = [m for m in policy.model.modules() if isinstance(m, LoraLinear)]
    assert len(layers) == 14
    for layer in layers:
        del layer.forward  # what `fuse` put over the method of the class
    for ours, theirs in zip(fused, run(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_base_trains_a_float32_adapter(qwen3: Path):
    """The layout of a GPU run, on the CPU: same log-probabilities and gradients up to the base's rounding."""
    exact = policy_of(qwen3, disturb=0.1)
    coarse = load_policy(BaseModelRef(name="random", path=qwen3), LearnerConfig(lora_rank=4), 0, dtype=torch.bfloat16)
    coarse.load_adapter_tensors(exact.adapter_tensors(), "here")
    assert {p.dtype for p in coarse.model.parameters()} == {torch.bfloat16, torch.float32}
    pack = build_pack(plan_packs(sequences_of(make_batch(exact), [1.0] * 12, VOCABULARY), 10**6, exact.costs)[0])
    found = []
    for policy in (exact, coarse):
        logp_K, _ = policy.logprobs(pack, 1.0)
        grads = torch.autograd.grad(logp_K.mean(), list(policy.adapter.values()))
        assert {grad.dtype for grad in grads} == {torch.float32}
        found.append((logp_K.detach(), torch.cat([grad.flatten() for grad in grads])))
    (logp, grad), (coarse_logp, coarse_grad) = found
    assert float((logp - coarse_logp).abs().mean()) < 0.05
    assert float(torch.nn.functional.cosine_similarity(grad, coarse_grad, 0)) > 0.99


def test_a_model_without_safetensors_or_config_is_named(tmp_path: Path, qwen3: Path):
    with pytest.raises(NotFound, match="there is no config.json in"):
        policy_of(tmp_path)
    (tmp_path / "config.json").write_text((qwen3 / "config.json").read_text())
    with pytest.raises(NotFound, match="no safetensors weights"):
        policy_of(tmp_path)


def test_an_unknown_architecture_is_refused(tmp_path: Path, qwen3: Path):
    (tmp_path / "model.safetensors").write_bytes((qwen3 / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody-knows", "architectures": ["Odd"]}))
    with pytest.raises(InvalidArgument, match="cannot be loaded"):
        policy_of(tmp_path)


def test_a_head_that_is_not_computed_is_refused(tmp_path: Path):
    config = Gemma2Config(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, pad_token_id=0, attn_logit_softcapping=None, final_logit_softcapping=0.01,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(FailedPrecondition, match="final_logit_softcapping = 0.01 bend their logits"):
        policy_of(tmp_path)


def test_what_comes_out_otherwise_is_found_by_the_check_on_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = Gemma2Config(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.3,
        num_key_value_heads=2, head_dim=16, pad_token_id=0, attn_logit_softcapping=0.5, final_logit_softcapping=None,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    policy_of(tmp_path)
    original = attention.Kernel
    monkeypatch.setattr(attention, "Kernel", lambda scaling, window, softcap: original(scaling, window, None))
    with pytest.raises(FailedPrecondition, match="other log-probabilities for Gemma2ForCausalLM"):
        policy_of(tmp_path)


def test_an_absolute_position_model_with_other_linear_layers_trains_the_same_way(tmp_path: Path):
    """GPT-2: learned positions, biases, Conv1D instead of Linear. Nothing leans on one family."""
    config = GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    policy = policy_of(tmp_path, disturb=0.1)
    assert policy.score(IDS) == pytest.approx(logprobs_at(policy, IDS, 1.0), abs=1e-5)
    assert any("c_attn" in name for name in policy.adapter)


class TestWarmStart:
    """A published adapter is where the next run begins; one that does not fit is refused."""

    @pytest.fixture
    def adapter(self, tmp_path: Path, qwen3: Path) -> Path:
        return put(tmp_path, 7, policy_of(qwen3, disturb=0.1))

    def test_it_begins_there(self, adapter: Path, qwen3: Path):
        warm, source = policy_of(qwen3, warm_start=adapter), policy_of(qwen3, disturb=0.1)
        assert all(torch.equal(p, q) for p, q in zip(warm.adapter.values(), source.adapter.values(), strict=True))

    def test_another_rank_or_alpha_is_refused(self, adapter: Path, qwen3: Path):
        with pytest.raises(InvalidArgument, match="has r 4, but the job asks for 8"):
            policy_of(qwen3, warm_start=adapter, lora_rank=8)
        with pytest.raises(InvalidArgument, match="has lora_alpha 32, but the job asks for 16"):
            policy_of(qwen3, warm_start=adapter, lora_alpha=16)

    def test_another_base_model_is_refused(self, adapter: Path, tmp_path: Path):
        with pytest.raises(InvalidArgument, match="does not fit this base model"):
            policy_of(write_base(tmp_path / "wide", hidden_size=64), warm_start=adapter)

    def test_other_kinds_of_adapter_are_refused(self, adapter: Path, qwen3: Path):
        settings = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
        with pytest.raises(InvalidArgument, match="not a plain LoRA adapter \\(use_dora\\)"):
            policy_of(qwen3, warm_start=adapter)

    def test_a_folder_without_weights_is_named(self, tmp_path: Path, qwen3: Path):
        with pytest.raises(NotFound, match="there is no adapter_model.safetensors in"):
            policy_of(qwen3, warm_start=tmp_path)
