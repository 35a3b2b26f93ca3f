"""The end of a training job: its best adapter, or its full model, becomes a model that the gateway serves by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.models import ADAPTER
from tunesmith.db.tables import Model
from tunesmith.errors import AlreadyExists
from tunesmith.settings import Settings

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
ORIGIN_FILE = "tunesmith.json"
NOT_KEPT = ("result.json", ORIGIN_FILE)
"""Of a run's output folder."""


def keep_adapter(settings: Settings, source: Path, model: str) -> Path:
    """Copy an adapter out of its run directory to where models are kept, in PEFT format; returns the folder. Idempotent."""
    return _keep(settings, [source / file for file in ADAPTER_FILES], model)


def keep_adapter_beside(settings: Settings, source: Path, model: str, sha256: str) -> Path:
    """The same in a folder named by the weights, so that the model may be called while its weights are replaced. Idempotent."""
    _, account, _, name = model.split("/")
    kept = settings.path("objects", "models", account, f"{name}@{sha256[:16]}")
    return (
        kept if kept.is_dir() else _keep(settings, [source / file for file in ADAPTER_FILES], f"{model}@{sha256[:16]}")
    )


def keep_model(settings: Settings, source: Path, model: str, base_model: str) -> Path:
    """Keep a full model where the catalogue finds it; returns the folder. Idempotent.

    `base_model` is the catalogue's model that it was trained from, whose defaults and rendering it keeps (`tunesmith.json`).
    """
    files = [file for file in sorted(source.iterdir()) if file.is_file() and file.name not in NOT_KEPT]
    return _keep(settings, files, model, {ORIGIN_FILE: json.dumps({"base_model": base_model})})


def _keep(settings: Settings, files: Sequence[Path], model: str, texts: dict[str, str] | None = None) -> Path:
    _, account, _, name = model.split("/")
    target = settings.path("objects", "models", account, name)
    temporary = target.with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file in files:
        _link_or_copy(file, temporary / file.name)
    for filename, text in (texts or {}).items():
        (temporary / filename).write_text(text)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return target


def _link_or_copy(source: Path, target: Path) -> None:
    """Weights are written once and never changed, so both folders may share them on disk."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


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
    kind: str = ADAPTER,
) -> Model:
    """Register a kept folder as model `name`. The same job again is fine; raises AlreadyExists for a model of another job.

    `base_model` is what an adapter sits on, or the catalogue's model that a full one was trained from.
    """
    existing = session.get(Model, name)
    if existing is not None and existing.job != job:
        maker = existing.job or "hand"
        raise AlreadyExists(f"The model {name} exists already, made by {maker}. Choose another outputModel.")
    model = existing or Model(name=name, account=account, base_model=base_model, job=job)
    model.adapter_path, model.sha256, model.details, model.kind = str(adapter), sha256, details, kind
    session.add(model)
    session.flush()
    return model


def why_ended(run: dict[str, Any]) -> str:
    """Why an RFT job ended that was trained to its end, from its run's `status.json`; empty when there is nothing to say of it."""
    return f"Stopped early: {run['message']}." if run.get("message") else ""
