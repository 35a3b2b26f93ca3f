"""The vocabulary of a byte-level BPE tokenizer.json as GGUF fields, and the chat template as Ollama writes it.

How llama.cpp cuts a text before it merges is not in the file: the file names one of the ways that are built into it. So a tokenizer whose
own way is not one of `CUTS` is refused, rather than written as something that cuts differently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from gguf import TokenType
from transformers import AutoTokenizer

from tunesmith.errors import FailedPrecondition

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}": "qwen2",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}": "llama-bpe",
}
"""Regular expression of the tokenizer's `Split`, and llama.cpp's name for it."""
BYTE_LEVEL = "gpt-2"
"""Its name for the byte-level pre-tokenizer with its own expression (GPT-2's)."""
_TURNS = (("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Three?"))


@dataclass(frozen=True)
class Vocabulary:
    """What of a tokenizer goes into a GGUF file."""

    tokens: list[str]
    """By id; ids of the model that the tokenizer does not have are `[PAD{id}]`."""
    types: list[TokenType]
    merges: list[str]
    cut: str
    special: dict[str, int]
    """`bos`, `eos`, `pad`, `unk` as far as there are."""
    stop_texts: list[str]
    """Texts of the ids that end an answer."""
    chat_template: str | None

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write it."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, token_id in self.special.items():
            getattr(writer, f"add_{name}_token_id")(token_id)
        writer.add_add_bos_token(False)  # the chat template writes it where the model wants one
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of the tokenizer in a model's folder; `size` is the model's number of ids.

    Raises FailedPrecondition with the reason when it has no GGUF form here.
    """
    content = json.loads((folder / "tokenizer.json").read_text())
    model = content["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        _refuse(
            f"it is {model.get('type')}{' with byte fallback' if model.get('byte_fallback') else ''}, no byte-level BPE"
        )
    if content.get("normalizer") and content["normalizer"].get("type") != "NFC":
        _refuse(f"it normalises by {content['normalizer'].get('type')}")
    tokens, types = [f"[PAD{index}]" for index in range(size)], [TokenType.UNUSED] * size
    for token, index in model["vocab"].items():
        tokens[index], types[index] = token, TokenType.NORMAL
    for added in content.get("added_tokens") or []:
        if added["id"] < size:
            tokens[added["id"]] = added["content"]
            types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    stops = _stop_ids(folder)
    named = {
        "bos": loaded.bos_token_id,
        "eos": loaded.eos_token_id,
        "pad": loaded.pad_token_id,
        "unk": loaded.unk_token_id,
    }
    if stops and named["eos"] not in stops:
        named["eos"] = stops[0]
    template = loaded.chat_template
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or []],
        cut=_cut(content.get("pre_tokenizer") or {}),
        special={name: index for name, index in named.items() if isinstance(index, int)},
        stop_texts=[tokens[index] for index in stops],
        chat_template=template if isinstance(template, str) else (template or {}).get("default"),
    )


def chatml_template(folder: Path) -> str | None:
    """Ollama's template of ChatML when the model's own chat template writes a plain conversation that way; else None."""
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not loaded.chat_template:
        return None
    turns = [{"role": role, "content": text} for role, text in _TURNS]
    expected = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in _TURNS) + "<|im_start|>assistant\n"
    if loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) != expected:
        return None
    return "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


def _cut(pre_tokenizer: dict[str, Any]) -> str:
    parts = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
    kinds = [part.get("type") for part in parts]
    if kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True):
        expression = parts[0]["pattern"].get("Regex", "")
        if expression in CUTS:
            return CUTS[expression]
        _refuse(f"it cuts texts by an expression that llama.cpp has no name for: {expression}")
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True) and not parts[0].get("add_prefix_space"):
        return BYTE_LEVEL
    return _refuse(f"it cuts texts by {' and '.join(map(str, kinds))}")


def _stop_ids(folder: Path) -> list[int]:
    """Ids that end an answer: the generation config's, else the config's."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        found = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []


def _refuse(reason: str) -> str:
    raise FailedPrecondition(
        f"The tokenizer of this model cannot be written as GGUF: {reason}. Export it as merged safetensors."
    )
