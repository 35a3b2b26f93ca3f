"""Base models: ids, sources, defaults. `resolve` turns a name that a client sent into a folder that can be loaded.

entry = resolve("accounts/fireworks/models/qwen3-0p6b", models_dir=settings.path("models"))
entry.name, entry.path, entry.training.learning_rate
"""

from tunesmith.catalog.entry import BaseModelEntry, Bounds, TrainingDefaults, TuningDefaults
from tunesmith.catalog.known import is_listed
from tunesmith.catalog.lookup import account_model, available, canonical_name, resolve

__all__ = [
    "BaseModelEntry",
    "Bounds",
    "TrainingDefaults",
    "TuningDefaults",
    "account_model",
    "available",
    "canonical_name",
    "is_listed",
    "resolve",
]
