"""The end of a training job: its best adapter becomes a model that the gateway serves by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.tables import Model
from tunesmith.errors import AlreadyExists
from tunesmith.settings import Settings

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def keep_adapter(settings: Settings, source: Path, model: str) -> Path:
    """Copy an adapter out of its run directory to where models are kept, in PEFT format; returns the folder. Idempotent."""
    _, account, _, name = model.split("/")
    target = settings.path("objects", "models", account, name)
    temporary = target.with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file in ADAPTER_FILES:
        shutil.copyfile(source / file, temporary / file)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return target


def promote(
    session: Session,
    *,
    name: str,
    account: str,
    base_model: str,
    job: str,
    adapter: Path,
    sha256: str,
    details: dict[str, Any],
) -> Model:
    """Register the adapter as model `name`. The same job again is fine; raises AlreadyExists for a model of another job."""
    existing = session.get(Model, name)
    if existing is not None and existing.job != job:
        maker = existing.job or "hand"
        raise AlreadyExists(f"The model {name} exists already, made by {maker}. Choose another outputModel.")
    model = existing or Model(name=name, account=account, base_model=base_model, job=job)
    model.adapter_path, model.sha256, model.details = str(adapter), sha256, details
    session.add(model)
    session.flush()
    return model
