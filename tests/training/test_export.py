"""Exports: what plain transformers makes of a merged folder and of a GGUF file is what base and adapter say together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.schemas.model_exports import QUANTIZATIONS
from tunesmith.training.export import export, merged_model
from tunesmith.training.gguf_tokenizer import CUTS

from tests.engines.makers import peft_may_warn, write_adapter, write_model

SIZES: dict[str, Any] = {
    "vocab_size": 263,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 300,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = [
    LlamaConfig(**SIZES),
    LlamaConfig(**SIZES, rope_parameters=LLAMA3, tie_word_embeddings=True),
    MistralConfig(**SIZES, sliding_window=None),
    Qwen2Config(**SIZES),
    Qwen3Config(**SIZES, head_dim=32),
    Gemma2Config(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=9),
    Phi3Config(**SIZES),
]
NAMES = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "phi3"]
PROMPT = [index * 13 % 250 for index in range(40)]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path, template: str = CHATML) -> None:
    """A byte-level tokenizer with a few merges, cut as Qwen 2 does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("o", "n")]
    words = [*alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    cut = next(expression for expression, name in CUTS.items() if name == "qwen2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make(folder: Path, config: PreTrainedConfig) -> tuple[Path, Path]:
    base = write_model(folder / "base", config, stop_ids=[260])
    write_tokenizer(base)
    return base, write_adapter(folder / "adapter", base, seed=1, size=0.05)


def logprobs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([PROMPT]), use_cache=False).logits[0].float().log_softmax(-1)


def unmerged(base: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel

    with peft_may_warn():
        return logprobs(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))


def test_a_merged_folder_says_what_base_and_adapter_say(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=True))
    files = export(base, adapter, tmp_path / "out", "merged")
    (tmp_path / "usual").touch()
    assert {path.stat().st_mode for path in files} == {(tmp_path / "usual").stat().st_mode}
    expected, plain = unmerged(base, adapter), logprobs(AutoModelForCausalLM.from_pretrained(base))
    found = logprobs(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    assert (found - expected).abs().max() <= 1e-5
    assert (found - plain).abs().max() > 0.1
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= {f.name for f in files}
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.chat_template == CHATML


def test_the_merged_folder_keeps_the_type_of_its_base(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, LlamaConfig(**SIZES))
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
    export(base, adapter, tmp_path / "out", "merged")
    exact = merged_model(base, adapter)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert stored.dtype == torch.bfloat16
    for name, value in stored.state_dict().items():
        assert torch.equal(value, exact.state_dict()[name].to(torch.bfloat16)), name


@pytest.mark.parametrize("config", FAMILIES, ids=NAMES)
def test_transformers_reads_the_gguf_file_as_the_same_model(config: PreTrainedConfig, tmp_path: Path) -> None:
    base, adapter = make(tmp_path, config)
    export(base, adapter, tmp_path / "out", "gguf", quantization="f32", name="mine")
    # Sizes and rotary scaling that its GGUF reader does not look at; it does not know mistral's own name.
    own = None if config.model_type == "mistral" else AutoConfig.from_pretrained(base)
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", config=own, dtype=torch.float32
    )
    assert (logprobs(read) - logprobs(merged_model(base, adapter))).abs().max() <= 1e-6
    assert (logprobs(read) - unmerged(base, adapter)).abs().max() <= 1e-4


def test_the_gguf_file_has_the_tokenizer_and_the_template(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, Qwen2Config(**SIZES))
    export(base, adapter, tmp_path / "out", "gguf", name="mine")
    ours = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    theirs = AutoTokenizer.from_pretrained(base)
    text = "<|im_start|>user\nthe one, às 12!  then\n<|im_end|>"
    assert ours(text).input_ids == theirs(text).input_ids
    assert ours.chat_template == CHATML
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.name"] == "mine"
    assert fields["tokenizer.ggml.pre"] == "qwen2"
    assert fields["tokenizer.ggml.eos_token_id"] == 260
    assert fields["tokenizer.ggml.tokens"][262] == "[PAD262]"
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "FROM ./model.gguf" in text
    assert "<|im_start|>{{ .Role }}" in text


def test_no_template_is_made_up_for_another_chat_format(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, Qwen2Config(**SIZES))
    write_tokenizer(base, "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    export(base, adapter, tmp_path / "out", "gguf")
    assert "TEMPLATE" not in (tmp_path / "out" / "Modelfile").read_text()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_tensor_is_the_model_s_within_its_quantization(quantization: str, tmp_path: Path) -> None:
    most = {"f32": 0.0, "f16": 2**-11, "q8_0": 1 / 127}[quantization]
    base, adapter = make(tmp_path, Qwen2Config(**SIZES))
    export(base, adapter, tmp_path / "out", "gguf", quantization=quantization)
    model = merged_model(base, adapter).state_dict()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    expected = {names.get_name(name, (".weight", ".bias")): value.numpy() for name, value in model.items()}
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert {tensor.name for tensor in reader.tensors} == set(expected)
    for tensor in reader.tensors:
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(expected[tensor.name].shape)
        off = np.abs(found - expected[tensor.name]).max()
        assert off <= most * np.abs(expected[tensor.name]).max(), tensor.name


def test_what_has_no_gguf_form_is_refused_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    base = write_model(tmp_path / "bloom", BloomConfig(vocab_size=263, hidden_size=48, n_layer=1, n_head=4))
    with pytest.raises(FailedPrecondition, match="architecture bloom is not among"):
        export(base, None, tmp_path / "out", "gguf")
    base, adapter = make(tmp_path, Qwen2Config(**SIZES))
    changed = json.loads((base / "tokenizer.json").read_text())
    changed["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\d"
    (base / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(FailedPrecondition, match="an expression that llama.cpp has no name for"):
        export(base, adapter, tmp_path / "out", "gguf")
    assert not any(path.name.startswith((".out", "out")) for path in tmp_path.iterdir())


def test_the_process_prints_its_files_and_overwrites_nothing(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, Qwen2Config(**SIZES))
    argv = [sys.executable, "-m", "tunesmith.training.export", str(base), str(tmp_path / "out")]
    done = subprocess.run([*argv, "--adapter", str(adapter)], capture_output=True, text=True, check=True)
    assert str(tmp_path / "out" / "model.safetensors") in json.loads(done.stdout)["files"]
    with pytest.raises(InvalidArgument, match="out is not empty; give another folder, or empty it first"):
        export(base, adapter, tmp_path / "out", "gguf")


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    base, _ = make(tmp_path, Qwen2Config(**SIZES))
    other = write_model(tmp_path / "other", LlamaConfig(**{**SIZES, "hidden_size": 32}))
    with pytest.raises(InvalidArgument, match="cannot be loaded"):
        export(base, write_adapter(tmp_path / "theirs", other), tmp_path / "out", "merged")
