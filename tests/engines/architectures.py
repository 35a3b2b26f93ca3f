"""Checkpoints of other families, made on the spot: about a million random parameters, a tokenizer with byte fallback, no download.

The weights are scaled so that logits are far from flat: a wrong rotation, window or cap then shows in every log-probability.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

WINDOW = 48
"""Of the models with a sliding window; the tests' sequences are longer."""
CONTEXT = 512
SPECIAL = ["<unk>", "<s>", "</s>", "<end_of_turn>", "<|eot_id|>", "<|im_end|>"]
LETTERS = " abcdefghijklmnopqrstuvwxyz0123456789.,?"

_SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _sizes(**others: Any) -> dict[str, Any]:
    return {**_SIZES, **others}


@dataclass(frozen=True)
class Architecture:
    """One checkpoint to make."""

    config: PreTrainedConfig
    end_ids: list[int] = field(default_factory=lambda: [2])
    """Written to generation_config.json."""


ARCHITECTURES: dict[str, Architecture] = {
    "llama-3 with scaled rotation": Architecture(
        LlamaConfig(
            **_sizes(tie_word_embeddings=False),
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        )
    ),
    "qwen-2.5 with biases": Architecture(Qwen2Config(**_sizes(tie_word_embeddings=True))),
    "qwen-3, tied": Architecture(Qwen3Config(**_sizes(tie_word_embeddings=True))),
    "qwen-3, untied, several end tokens": Architecture(
        Qwen3Config(**_sizes(tie_word_embeddings=False)), end_ids=[2, 3, 4, *range(20, 32)]
    ),
    "mistral with a window": Architecture(MistralConfig(**_sizes(tie_word_embeddings=False), sliding_window=WINDOW)),
    "phi-3 with fused projections": Architecture(
        Phi3Config(**{k: v for k, v in _sizes(tie_word_embeddings=False).items() if k != "head_dim"}, sliding_window=WINDOW)
    ),
    "phi-3 with long rotation": Architecture(
        Phi3Config(
            **{k: v for k, v in _sizes(tie_word_embeddings=False).items() if k != "head_dim"},
            original_max_position_embeddings=64,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 16, "long_factor": [4.0] * 16,
                "original_max_position_embeddings": 64,
            },
        )
    ),
    "gemma-2 with soft caps and a window": Architecture(
        Gemma2Config(**_sizes(tie_word_embeddings=True), sliding_window=WINDOW, query_pre_attn_scalar=32)
    ),
    "gemma-3 with a window": Architecture(
        Gemma3TextConfig(**_sizes(tie_word_embeddings=True), sliding_window=WINDOW, query_pre_attn_scalar=32)
    ),
    "qwen-3 mixture of experts": Architecture(
        Qwen3MoeConfig(
            **_sizes(tie_word_embeddings=False, num_hidden_layers=2), num_experts=8, num_experts_per_tok=2,
            moe_intermediate_size=128, norm_topk_prob=True,
        )
    ),
}  # fmt: skip


def write_architecture(name: str, folder: Path) -> Path:
    """The checkpoint's folder: config, weights, tokenizer, generation_config."""
    made = ARCHITECTURES[name]
    torch.manual_seed(11)
    module = AutoModelForCausalLM.from_config(made.config)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:  # biases and norms are made as constants; a constant hides what is left out
                parameter.add_(0.2 * torch.randn(parameter.shape))
        if made.config.model_type.startswith("gemma3"):  # its head is its embedding: certain at full size
            module.get_input_embeddings().weight.mul_(0.75)
    module.save_pretrained(folder)
    byte_fallback_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": made.end_ids}))
    return folder


def byte_fallback_tokenizer() -> Tokenizer:
    """SentencePiece's way: letters are pieces, everything else is the bytes `<0x00>` to `<0xFF>`."""
    letters = [letter.replace(" ", "\u2581") for letter in LETTERS]
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer
