"""Does a base model exist, and with which defaults does a job on it start? Answered without downloading any weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from tunesmith.catalog import TrainingDefaults, canonical_name, resolve
from tunesmith.catalog.architectures import untrainable
from tunesmith.catalog.known import KNOWN
from tunesmith.catalog.lookup import NotLoadable
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.models import BaseModelDetails
from tunesmith.schemas.names import account_name
from tunesmith.settings import Settings

ASK_SECONDS = 5.0


@dataclass(frozen=True)
class BaseModel:
    """What a job needs to know about its base model before it runs."""

    name: str
    """The one name under which it is served, whatever alias the client used."""
    training: TrainingDefaults
    context_length: int | None
    """Tokens; None when the model is yet to be downloaded."""
    untrainable: str | None = None
    """Why the learner cannot train it, as far as its config.json says; None = nothing speaks against it."""


def find_base_model(name: str, settings: Settings, account: str | None = None) -> BaseModel:
    """The base model of that name: on this machine, or on the Hugging Face hub, from where the job will fetch it.

    Full models that jobs of `account` made are base models too; without it they are not looked at. May ask the hub: call it outside of a
    transaction. Raises NotFound naming every place that was looked at.
    """
    own = account is not None and name.startswith(f"{account_name(account)}/models/")
    made = settings.path("objects", "models") if own else None
    try:
        entry = resolve(name, models_dir=settings.path("models"), account_models=made, download=False)
    except NotLoadable as missing:
        if constants.is_offline_mode():
            raise
        reason = _missing_on_hub(missing.repo)
        if reason is not None:
            raise missing.also(f"{constants.ENDPOINT}/{missing.repo} ({reason})") from None
        canonical = canonical_name(name)
        known = KNOWN.get(canonical)
        return BaseModel(canonical, known.training if known else TrainingDefaults(), None)
    return BaseModel(entry.name, entry.training, context_length(entry.path), untrainable(entry.path))


def trainable_base_model(name: str, settings: Settings, account: str) -> BaseModel:
    """`find_base_model` for a job that trains it. Raises InvalidArgument with the reason where the learner does not compute it."""
    base = find_base_model(name, settings, account)
    if base.untrainable is not None:
        raise InvalidArgument(f"{base.name} cannot be trained: {base.untrainable} Choose another base model.")
    return base


def context_length(folder: Path) -> int | None:
    """Positions of the model in a folder, from its config.json."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return length if isinstance(length, int) else None


def base_model_details(folder: Path) -> BaseModelDetails:
    """Architecture and number of parameters of the model in a folder, from its config.json and the headers of its weights."""
    try:
        model_type = str(json.loads((folder / "config.json").read_text()).get("model_type", ""))
        files = sorted(folder.glob("*.safetensors"))
        count = sum(_parameters(file) for file in files) if files else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return BaseModelDetails()
    return BaseModelDetails(model_type=model_type, parameter_count=count)


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    with open(file, "rb") as content:
        header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _missing_on_hub(repo: str) -> str | None:
    """Why the hub cannot be asked for a model; None when it has it."""
    try:
        HfApi().model_info(repo, timeout=ASK_SECONDS)
    except RepositoryNotFoundError:
        return "does not have it, or not for you"
    except Exception as error:  # noqa: BLE001 - hub, HTTP and socket errors share no base; each means "not to be had", and NotFound says so
        return f"did not answer: {type(error).__name__}"
    return None
