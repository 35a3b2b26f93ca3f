"""Does a base model exist, and with which defaults does a job on it start? Answered without downloading any weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants

from tunesmith.catalog import TrainingDefaults, canonical_name, is_listed, resolve
from tunesmith.catalog.known import KNOWN
from tunesmith.errors import NotFound

ASK_SECONDS = 5.0


@dataclass(frozen=True)
class BaseModel:
    """What a job needs to know about its base model before it runs."""

    name: str
    """The one name under which it is served, whatever alias the client used."""
    training: TrainingDefaults
    context_length: int | None
    """Tokens; None when the model is yet to be downloaded."""


def find_base_model(name: str, models_dir: Path) -> BaseModel:
    """The base model of that name: on this machine, or on the Hugging Face hub, from where the job will fetch it.

    Raises NotFound naming every place that was looked at.
    """
    try:
        entry = resolve(name, models_dir=models_dir, download=False)
    except NotFound as missing:
        canonical = canonical_name(name)
        known = KNOWN.get(canonical)
        repo = known.repo if known else canonical
        if not repo or not _may_be_on_hub(name):
            raise
        if not _on_hub(repo):
            asked = f"{constants.ENDPOINT} was asked for {repo}, and did not answer or does not have it."
            raise NotFound(f"{missing.message} {asked}") from None
        return BaseModel(canonical, known.training if known else TrainingDefaults(), None)
    return BaseModel(entry.name, entry.training, context_length(entry.path))


def context_length(folder: Path) -> int | None:
    """Positions of the model in a folder, from its config.json."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return length if isinstance(length, int) else None


def _may_be_on_hub(name: str) -> bool:
    looks_like_repo = name.count("/") == 1 and not name.startswith(("/", "file:", "~", "."))
    return (looks_like_repo or is_listed(name)) and not constants.is_offline_mode()


def _on_hub(repo: str) -> bool:
    try:
        HfApi().model_info(repo, timeout=ASK_SECONDS)
    except Exception:  # noqa: BLE001 - hub, HTTP and socket errors share no base; each means "not to be had", and NotFound says so
        return False
    return True
