"""A model folder without a trained model: a byte-level tokenizer, a chat template of its own, a few random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{{ bos_token }}"
    "{% for tool in tools or [] %}[tool]{{ tool | tojson }}\n{% endfor %}"
    "{% for m in messages %}"
    "{% if m.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('unknown role ' ~ m.role) }}{% endif %}"
    "[{{ m.role }}]\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "{{ eos_token }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
BOS, EOS = 256, 257


def make_model_folder(folder: Path, context_length: int = 512) -> Path:
    """Write the folder: 256 byte tokens, `<s>` = 256, `</s>` = 257; every text is one token a byte."""
    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "max_position_embeddings": context_length,
        "vocab_size": 260,
        "eos_token_id": EOS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file({"w": np.zeros((2, 2), np.float32)}, str(folder / "model.safetensors"))
    return folder
