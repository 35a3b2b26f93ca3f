"""Nothing leans on one model: other families come out as in transformers, and what would not is refused at the start."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, Gemma2Config, GPT2Config, GPTNeoXConfig, PreTrainedConfig
from tunesmith.engines import attention
from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.model import load_model
from tunesmith.engines.trial import try_model
from tunesmith.engines.wire import GenerateRequest
from tunesmith.errors import InvalidArgument

from tests.engines.architectures import ARCHITECTURES, WINDOW, write_architecture
from tests.engines.drive import finals
from tests.engines.makers import write_adapter, write_model
from tests.engines.test_logprobs import BOUND, Reference

SIZES: dict[str, Any] = {
    "vocab_size": 263,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 300,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
PLAIN = ("llama-3", "qwen-2.5", "qwen-3, ", "mistral", "phi-3 with fused")
"""Families that have a forward of their own here."""
LONG = "phi-3 with long rotation"
PROMPT = [6 + i * 13 % 300 for i in range(40)]
SAMPLED = 40
"""Tokens behind the prompt: together longer than every sliding window."""


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != LONG])
async def test_what_is_recorded_is_what_transformers_computes(name: str, tmp_path: Path) -> None:
    """Greedy and sampled, base and adapter, beyond the window; bound 3e-5."""
    folder = write_architecture(name, tmp_path / "model")
    # What the learner targets: in a mixture of experts the experts are no linear layers, so attention alone.
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"] if "experts" in name else "all-linear"
    adapter = write_adapter(tmp_path / "adapter", folder, size=0.05, target_modules=targets)
    engine = BuiltinEngine(folder, name)
    try:
        assert (engine._base.plain is not None) == name.startswith(PLAIN)
        await engine.load("v1", str(adapter))
        for model, reference in ((None, Reference(folder)), ("v1", Reference(folder, adapter))):
            asked = [
                GenerateRequest(
                    prompt_ids=PROMPT,
                    max_tokens=SAMPLED,
                    temperature=temperature,
                    n=2,
                    seed=3,
                    stream=False,
                    model=model,
                )
                for temperature in (0.0, 1.0)
            ]
            greedy, sampled = await asyncio.gather(*(finals(engine, request) for request in asked))
            for event in [greedy[1], *sampled]:
                expected = reference.logprobs(PROMPT, event.token_ids, 1.0)
                assert (torch.tensor(event.model_logprobs) - expected).abs().max().item() <= BOUND
            best = reference.best(PROMPT, greedy[0].token_ids)
            assert greedy[0].token_ids == best
            assert all(event.finish_reason == "length" or event.token_ids[-1] in ends(name) for event in sampled)
            assert all(not set(event.token_ids[:-1]) & set(ends(name)) for event in [*greedy, *sampled])
            assert max(len(event.token_ids) for event in [*greedy, *sampled]) + len(PROMPT) > WINDOW
            assert -5 < sum(sampled[0].model_logprobs) / len(sampled[0].token_ids) < -0.05, "neither flat nor certain"
            scored = torch.tensor(await engine.score(model, PROMPT * 2))
            assert (scored - reference.logprobs(PROMPT[:1], (PROMPT * 2)[1:], 1.0)).abs().max().item() <= BOUND
    finally:
        engine.close()


def ends(name: str) -> list[int]:
    return [2, *ARCHITECTURES[name].end_ids]


@pytest.mark.parametrize(
    "config",
    [
        GPTNeoXConfig(**{name: value for name, value in SIZES.items() if name != "num_key_value_heads"}),
        GPT2Config(vocab_size=263, n_embd=48, n_layer=2, n_head=4, n_positions=300, initializer_range=0.2),
    ],
    ids=lambda config: config.model_type,
)
async def test_older_families_too(config: PreTrainedConfig, tmp_path: Path) -> None:
    write_model(tmp_path, config, stop_ids=[])
    engine = BuiltinEngine(tmp_path, "other")
    try:
        request = GenerateRequest(prompt_ids=PROMPT[:20], max_tokens=30, temperature=0.0, n=2, stream=False)
        event = (await finals(engine, request))[1]
    finally:
        engine.close()
    reference = Reference(tmp_path)
    assert event.token_ids == reference.best(PROMPT[:20], event.token_ids)
    expected = reference.logprobs(PROMPT[:20], event.token_ids, 1.0)
    assert (torch.tensor(event.logprobs) - expected).abs().max().item() <= BOUND


def test_a_family_with_attention_of_its_own_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, BloomConfig(vocab_size=263, hidden_size=48, n_layer=1, n_head=4))
    with pytest.raises(InvalidArgument, match="bloom do not take their attention from outside"):
        load_model(tmp_path)


async def test_a_rotation_that_moves_with_the_length_is_refused_and_served_within_its_first_length(
    tmp_path: Path,
) -> None:
    folder = write_architecture(LONG, tmp_path)
    with pytest.raises(InvalidArgument, match="longrope turn every token otherwise .* longer than 64 tokens"):
        load_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    engine = BuiltinEngine(folder, "short")
    try:
        (event,) = await finals(engine, GenerateRequest(prompt_ids=PROMPT, max_tokens=20, seed=2, stream=False))
    finally:
        engine.close()
    expected = Reference(folder).logprobs(PROMPT, event.token_ids, 1.0)
    assert (torch.tensor(event.model_logprobs) - expected).abs().max().item() <= BOUND


def test_a_model_that_comes_out_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial at the start sees a soft cap that is not applied."""
    write_model(tmp_path, Gemma2Config(**SIZES, head_dim=16, attn_logit_softcapping=0.5))
    original = attention.Options.__init__
    monkeypatch.setattr(
        attention.Options, "__init__", lambda self, scaling, window, softcap: original(self, scaling, window, None)
    )
    with pytest.raises(InvalidArgument, match="comes out differently here than in transformers"):
        BuiltinEngineOutsideALoop(tmp_path)


def BuiltinEngineOutsideALoop(folder: Path) -> None:

    with torch.inference_mode():
        try_model(load_model(folder), 300)


@pytest.mark.parametrize(("removed", "named"), [("config.json", "config.json"), ("model.safetensors", "safetensors")])
def test_a_folder_without_its_files_is_refused(tmp_path: Path, removed: str, named: str) -> None:
    write_model(tmp_path)
    (tmp_path / removed).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(InvalidArgument, match=named):
        load_model(tmp_path)


def test_remote_code_is_not_run(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}'
    )
    (tmp_path / "code.py").write_text("raise SystemExit('was run')")
    with pytest.raises(InvalidArgument, match="cannot be loaded"):
        load_model(tmp_path)
