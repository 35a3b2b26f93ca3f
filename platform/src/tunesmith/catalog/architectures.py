"""What of a model's config.json the platform does not compute, said before anything is started.

Engine and learner compare what they compute with the model's own forward when they load it; this is for what such a short
comparison cannot see, and for saying so when a job is created, without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MOVING_ROTATIONS = ("dynamic", "longrope")


def unsupported(folder: Path) -> str | None:
    """Why neither engine nor learner computes the model of a folder; None where nothing speaks against it."""
    text = _text_config(folder)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in _MOVING_ROTATIONS:
        return None
    longest = text.get("max_position_embeddings") or 0
    first = rope.get("original_max_position_embeddings") or text.get("original_max_position_embeddings") or longest
    if kind == "longrope" and longest <= first:
        return None
    return (
        f"rotary embeddings of type {kind} turn every token otherwise once a sequence is longer than {first} tokens, so what a "
        "token is depends on what comes after it. Set max_position_embeddings in its config.json to "
        f"{first} to use it up to there."
        if kind == "longrope"
        else f"rotary embeddings of type {kind} turn every token otherwise with every length of the sequence."
    )


def untrainable(folder: Path) -> str | None:
    """Why the learner cannot train the model of a folder; None where nothing speaks against it."""
    text = _text_config(folder)
    if cap := text.get("final_logit_softcapping"):
        return (
            f"models of type {text.get('model_type')} with final_logit_softcapping = {cap} bend their logits, which the "
            "learner does not compute (it can be served)."
        )
    return unsupported(folder)


def _text_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
        return {**config, **(config.get("text_config") or {})}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
