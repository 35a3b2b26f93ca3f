"""Nothing leans on one model: other families come out as in transformers, and what would not is refused at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
)
from tunesmith.engines import attention
from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.model import load_model
from tunesmith.engines.trial import try_model
from tunesmith.engines.wire import GenerateRequest
from tunesmith.errors import InvalidArgument

from tests.engines.drive import finals
from tests.engines.makers import write_model

SIZES: dict[str, Any] = {
    "vocab_size": 263,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 300,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**GROUPED),
        Qwen2Config(**GROUPED),
        MistralConfig(**GROUPED, sliding_window=9),
        Gemma2Config(**GROUPED, head_dim=16, sliding_window=9),
        Phi3Config(**GROUPED),
        GPTNeoXConfig(**SIZES),
        GPT2Config(vocab_size=263, n_embd=48, n_layer=2, n_head=4, n_positions=300, initializer_range=0.2),
    ],
    ids=lambda config: config.model_type,
)
async def test_greedy_equals_transformers(config: PreTrainedConfig, tmp_path: Path) -> None:
    write_model(tmp_path, config, stop_ids=[])
    module = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    prompt = [i * 13 % 250 for i in range(50)]
    engine = BuiltinEngine(tmp_path, "other")
    try:
        request = GenerateRequest(prompt_ids=prompt, max_tokens=30, temperature=0.0, n=2, stream=False)
        event = (await finals(engine, request))[1]
    finally:
        engine.close()
    with torch.no_grad():
        logits = module(torch.tensor([prompt + event.token_ids]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, -1)
    assert len(event.token_ids) == 30
    assert event.token_ids == expected.argmax(-1).tolist()
    assert (torch.tensor(event.logprobs) - expected.amax(-1)).abs().max().item() <= 3e-5


def test_a_family_with_attention_of_its_own_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, BloomConfig(vocab_size=263, hidden_size=48, n_layer=1, n_head=4))
    with pytest.raises(InvalidArgument, match="bloom do not take their attention from outside"):
        load_model(tmp_path)


def test_a_model_that_comes_out_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial at the start sees a soft cap that is not applied."""
    write_model(tmp_path, Gemma2Config(**GROUPED, head_dim=16, attn_logit_softcapping=0.5))
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
