"""Small random models with tokenizers, PEFT adapters for them, and a running engine process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftMixedModel, PeftModel, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedConfig, Qwen3Config

CONTEXT = 2048
STOP_IDS = [257, *range(100, 112)]
"""End of turn and a dozen bytes: a random model then ends about one answer in twenty tokens by itself."""


def write_model(folder: Path, config: PreTrainedConfig | None = None, *, stop_ids: int | list[int] = 257) -> Path:
    """A random model of a shape of its own, with a byte-level tokenizer of 260 tokens (3 ids of the model have none)."""
    config = config or Qwen3Config(
        vocab_size=263,
        hidden_size=128,
        intermediate_size=200,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.12,
        bos_token_id=None,
        eos_token_id=257,
    )
    torch.manual_seed(5)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_level_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop_ids}))
    return folder


def byte_level_tokenizer() -> Tokenizer:
    """256 bytes, two special tokens, `<think>` as an added token and one added token with a space and an accent."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|start|>", special=True), AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens(["<think>", "à la"])
    return tokenizer


def write_adapter(folder: Path, model: Path, *, seed: int = 0, size: float = 0.1, **options: object) -> Path:
    """A PEFT LoRA adapter with random factors, saved by peft itself."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    adapted = with_lora(model, LoraConfig(**settings))  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(str(folder))
    return folder


@contextlib.contextmanager
def peft_may_warn() -> Iterator[None]:
    """peft reads an attribute that transformers deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


def with_lora(model: Path, config: LoraConfig) -> PeftModel | PeftMixedModel:
    """The model with fresh LoRA factors."""
    with peft_may_warn():
        return get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)


@contextlib.contextmanager
def engine_process(model: Path, folder: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """A running engine; yields its URL and pid. The key is `secret`."""
    folder.mkdir(exist_ok=True)
    (folder / "key").write_text("secret\n")
    port_file = folder / "port"
    command = [
        sys.executable,
        "-m",
        "tunesmith.engines",
        "--model",
        str(model),
        "--name",
        "accounts/local/models/random",
    ]
    command += [
        "--port",
        "0",
        "--key-file",
        str(folder / "key"),
        "--port-file",
        str(port_file),
        "--threads",
        "1",
        *arguments,
    ]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not port_file.exists():
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text().strip()}", process.pid
    finally:
        process.terminate()
        assert process.wait(20) == 0, (folder / "log").read_text()
