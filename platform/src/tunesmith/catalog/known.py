"""The catalogue itself: models that ship with the platform, and documented ids with their Hugging Face sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.catalog.entry import Bounds, TrainingDefaults, TuningDefaults

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class KnownModel:
    """One catalogue entry, before anybody looked whether its files are there."""

    name: str
    display_name: str
    repo: str | None = None
    """Hugging Face id; None for a bundled model."""
    folder: Path | None = None
    training: TrainingDefaults = TrainingDefaults()
    inference_max_tokens: int = 2048
    family: str | None = None
    """Its family in `tunesmith.rendering`, where a maintained library writes that family's prompts."""


_TINY_TRAINING = TrainingDefaults(
    learning_rate=1e-3,
    lora_rank=16,
    chunk_size=10,
    max_tokens=80,
    learning_rate_bounds=Bounds(1e-5, 5e-3),
    max_tokens_bounds=Bounds(16, 4096),
    tuning=TuningDefaults(sft_learning_rate=2e-3, dpo_learning_rate=5e-4, lora_rank=16, sft_batch=16),
)

_TINY_TOOLS_TRAINING = replace(_TINY_TRAINING, max_tokens=64)  # of each turn; two calls side by side take some 20
_TINY_SVG_TRAINING = replace(_TINY_TRAINING, max_tokens=64)  # a drawing of two objects takes at most 35

_BUNDLED = (
    KnownModel(
        name="accounts/tunesmith/models/tiny-math-v1",
        display_name="Tiny Math v1 (1.5 M parameters, Qwen3 architecture)",
        folder=_HERE / "models" / "tiny-math-v1",
        training=_TINY_TRAINING,
        inference_max_tokens=256,
    ),
    KnownModel(
        name="accounts/tunesmith/models/tiny-tools-v1",
        display_name="Tiny Tools v1 (1.5 M parameters, Qwen3 architecture)",
        folder=_HERE / "models" / "tiny-tools-v1",
        training=_TINY_TOOLS_TRAINING,
        inference_max_tokens=256,
    ),
    KnownModel(
        name="accounts/tunesmith/models/tiny-svg-v1",
        display_name="Tiny SVG v1 (1.5 M parameters, Qwen3 architecture)",
        folder=_HERE / "models" / "tiny-svg-v1",
        training=_TINY_SVG_TRAINING,
        inference_max_tokens=256,
    ),
)

_DOCUMENTED = {
    "qwen3-0p6b": "Qwen/Qwen3-0.6B",
    "qwen3-1p7b": "Qwen/Qwen3-1.7B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-4b-instruct-2507": "Qwen/Qwen3-4B-Instruct-2507",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "qwen3-14b": "Qwen/Qwen3-14B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "qwen2p5-0p5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2p5-1p5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2p5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct",
    "llama-v3p1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "llama-v3p2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-v3p2-3b-instruct": "meta-llama/Llama-3.2-3B-Instruct",
}

_FAMILIES = {
    "qwen3": ("qwen3-0p6b", "qwen3-1p7b", "qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b"),
    "llama-3": ("llama-v3p2-1b-instruct", "llama-v3p2-3b-instruct"),
}
_FAMILY_OF = {id: family for family, ids in _FAMILIES.items() for id in ids}

KNOWN: dict[str, KnownModel] = {
    **{model.name: model for model in _BUNDLED},
    **{
        f"accounts/fireworks/models/{id}": KnownModel(
            f"accounts/fireworks/models/{id}", repo.split("/")[1], repo=repo, family=_FAMILY_OF.get(id)
        )
        for id, repo in _DOCUMENTED.items()
    },
}
"""By resource name."""

BY_REPO: dict[str, KnownModel] = {model.repo: model for model in KNOWN.values() if model.repo}
"""By Hugging Face id."""


def is_listed(name: str) -> bool:
    """Whether a name is in the catalogue (as resource name or as the Hugging Face id of an entry)."""
    return name in KNOWN or name in BY_REPO
