"""Model folders of families that their own chat template renders, without weights: SentencePiece's kind of tokenizer with byte fallback,
and a template that writes the family's documented format in our own words."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

_TURNS = "{% for m in messages %}{{ '{open}' ~ m.role ~ '{head}' ~ (m.content or '') }}"
_CALLS = "{% for c in m.tool_calls or [] %}{{ c.function.name ~ (c.function.arguments | tojson) }}{% endfor %}"
_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"


def _template(begin: str, opening: str, head: str, end: str) -> str:
    turns = _TURNS.replace("{open}", opening).replace("{head}", head)
    ask = "{% if add_generation_prompt %}{{ '" + opening + "assistant" + head + "' }}{% endif %}"
    return f"{{{{ '{begin}' }}}}{_TOOLS}{turns}{_CALLS}{{{{ '{end}' }}}}{{% endfor %}}{ask}"


TEMPLATES = {
    "gemma": _template("<bos>", "<start_of_turn>", "\\n", "<end_of_turn>\\n"),
    "phi3": _template("", "<|user|>", "\\n", "<|end|>\\n"),
    "mistral": _template("<s>", "[INST]", " ", "</s>"),
}
SPECIAL = {
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "phi3": ["<s>", "<|user|>", "<|end|>", "<|assistant|>"],
    "mistral": ["<s>", "</s>", "[INST]", "[/INST]"],
}
END = {"gemma": "<end_of_turn>", "phi3": "<|end|>", "mistral": "</s>"}


def make_template_folder(folder: Path, family: str, prefix_space: bool) -> Path:
    """Write config, tokenizer and template. `prefix_space`: the first piece of a text begins with a space, as in Llama 2 and Phi-3."""
    folder.mkdir(parents=True)
    letters = '\u2581abcdefghijklmnopqrstuvwxyz<>|/[]_.,{}":'
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "\u2581a", "nd", "en", "us"]
    merges = [("\u2581", "a"), ("n", "d"), ("e", "n"), ("u", "s")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    if prefix_space:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL[family]])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": family, "max_position_embeddings": 4096, "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id(END[family]),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATES[family]}))
    return folder
