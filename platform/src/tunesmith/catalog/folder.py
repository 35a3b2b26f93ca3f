"""Is this folder a model that can be loaded safely? Checked before anything of it is read by a heavy process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def problem(folder: Path) -> str | None:
    """Why the folder cannot be used, in words that follow its path; None when it can."""
    if not folder.is_dir():
        return "is not a folder"
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            return f"has no {needed}"
    pickles = sorted({file.name for pattern in _PICKLES for file in folder.glob(pattern)})
    if pickles:
        return f"holds pickled weights ({', '.join(pickles)}), which can run code; keep safetensors only"
    return _weights_problem(folder) or _code_problem(folder)


def _weights_problem(folder: Path) -> str | None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            return "has a model.safetensors.index.json that cannot be read"
        missing = sorted(shard for shard in shards if not (folder / str(shard)).is_file())
        return f"lacks {', '.join(missing)} (an unfinished download?)" if missing else None
    return None if any(folder.glob("*.safetensors")) else "has no *.safetensors"


def _code_problem(folder: Path) -> str | None:
    for name in ("config.json", "tokenizer_config.json"):
        file = folder / name
        if not file.exists():
            continue
        try:
            content: Any = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            return f"has a {name} that cannot be read ({error})"
        if not isinstance(content, dict):
            return f"has a {name} that is not an object"
        if content.get("auto_map"):
            return f"asks for its own Python code (auto_map in {name}), which is never run here"
    return None
