"""The models that training jobs begin with, as files of this machine."""

from __future__ import annotations

from pathlib import Path

from tunesmith.catalog import BaseModelEntry, resolve
from tunesmith.db.tables import Model
from tunesmith.errors import NotFound
from tunesmith.jobs.handler import JobContext
from tunesmith.settings import Settings


def base_model(settings: Settings, name: str, *, download: bool = True) -> BaseModelEntry:
    """A base model with its files in place. Blocks, minutes where they are yet to be downloaded.

    Raises NotFound when there is no such model, or with `download` false when it is not on this machine yet.
    """
    models, made = settings.path("models"), settings.path("objects", "models")
    return resolve(name, models_dir=models, account_models=made, download=download)


async def warm_start(context: JobContext, name: str | None) -> Path | None:
    """Folder of the adapter that a job continues from; None where it begins with a new one. Raises NotFound when it was deleted."""
    if name is None:
        return None
    model = await context.query(lambda session: session.get(Model, name))
    if model is None:
        raise NotFound(f"The model {name} to continue from was deleted.")
    return Path(model.adapter_path)
