"""Models: what jobs produced, to list, download and delete; and the catalogue's base models, to look at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse

from tunesmith.catalog import available
from tunesmith.db import models as table
from tunesmith.db.tables import Model as ModelRow
from tunesmith.errors import NotFound, PermissionDenied
from tunesmith.schemas.models import Model
from tunesmith.schemas.names import account_name, resource_name
from tunesmith.schemas.wire import SignedUrls
from tunesmith.server.auth import AccountId, Caller
from tunesmith.server.base_models import base_model_details, context_length
from tunesmith.server.control import Control, ControlPlane, Listing, Reader
from tunesmith.server.rft_plan import adapter_config
from tunesmith.server.training_options import training_options

router = APIRouter(prefix="/v1/accounts/{account_id}/models", tags=["models"])
CATALOGUE_ACCOUNTS = ("tunesmith", "fireworks")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
FULL_MODEL_SUFFIXES = (".json", ".safetensors", ".jinja", ".txt", ".model")


@router.get("")
def list_(account_id: str, caller: Caller, session: Reader, listing: Listing, control: Control) -> dict[str, Any]:
    """One page of the account's models, newest first; of a catalogue account: the base models that are on this machine."""
    if account_id in CATALOGUE_ACCOUNTS and account_id != caller:
        return {"models": _base_models(control, account_id), "nextPageToken": ""}
    rows, token = table.list_models(session, account_name(_own(account_id, caller)), listing)
    return {"models": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{model_id}:getDownloadEndpoint")
def get_download_endpoint(
    account: AccountId, model_id: str, request: Request, session: Reader, control: Control
) -> dict[str, Any]:
    """Signed URLs of a model's files; plain peft and transformers load them from one folder."""
    model = table.get_model(session, _name(account, model_id))
    files = _files(model)
    if not files:
        raise NotFound(
            f"The files of {model.name} are not at {model.adapter_path} any more; they were removed from disk."
        )
    urls = {name: control.signed_url(request, "GET", _file_path(model.name, name)) for name in files}
    return SignedUrls(filename_to_signed_urls=urls).dump()


@router.get("/{model_id}/files/{filename}", include_in_schema=False)
def file(account_id: str, model_id: str, filename: str, request: Request, session: Reader, control: Control) -> Any:
    """One file of a model, by signed URL."""
    name = _name(account_id, model_id)
    control.signer.check("GET", _file_path(name, filename), request.query_params)
    model = table.get_model(session, name)
    if filename not in _files(model):
        raise NotFound(f"The model {name} has no file {filename}.")
    return FileResponse(Path(model.adapter_path, filename), media_type="application/octet-stream", filename=filename)


@router.get("/{model_id}")
def get(account_id: str, model_id: str, caller: Caller, session: Reader, control: Control) -> dict[str, Any]:
    """One model."""
    if account_id in CATALOGUE_ACCOUNTS and account_id != caller:
        name = f"accounts/{account_id}/models/{model_id}"
        for model in _base_models(control, account_id):
            if model["name"] == name:
                return model
        raise NotFound(
            f"The base model {name} is not on this machine. A job that names it fetches it, if it is in the catalogue."
        )
    return _wire(table.get_model(session, _name(_own(account_id, caller), model_id)))


@router.delete("/{model_id}")
def delete(account: AccountId, model_id: str, control: Control) -> dict[str, Any]:
    """Remove a model and its files: the gateway stops serving it."""
    with control.sessions.begin() as session:
        model = table.delete_model(session, _name(account, model_id))
    folder = Path(model.adapter_path)
    if folder.is_relative_to(control.settings.path("objects", "models")):  # elsewhere they are somebody else's
        shutil.rmtree(folder, ignore_errors=True)
    return {}


def _files(model: ModelRow) -> list[str]:
    """Names of the files that make up a model, of those that are there."""
    folder = Path(model.adapter_path)
    if model.kind != table.FULL_MODEL:
        return [name for name in ADAPTER_FILES if (folder / name).is_file()]
    found = (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else ()
    return sorted(path.name for path in found if path.suffix in FULL_MODEL_SUFFIXES and not path.name.startswith("."))


def _own(account: str, caller: str) -> str:
    if account != caller:
        raise PermissionDenied(f"This key belongs to accounts/{caller}, not to accounts/{account[:80]}.")
    return account


def _name(account: str, model: str) -> str:
    return resource_name(account, "models", model)


def _file_path(name: str, filename: str) -> str:
    return f"/v1/{name}/files/{filename}"


def _base_models(control: ControlPlane, account: str) -> list[dict[str, Any]]:
    entries = available(control.settings.path("models"))
    return [
        Model(
            name=entry.name,
            display_name=entry.display_name,
            kind="HF_BASE_MODEL",
            state="READY",
            context_length=context_length(entry.path),
            base_model_details=base_model_details(entry.path),
            tunable=True,
            rl_tunable=True,
            training_options=training_options(entry.training),
        ).dump()
        for entry in entries
        if entry.name.startswith(f"accounts/{account}/")
    ]


def _wire(row: ModelRow) -> dict[str, Any]:
    config = adapter_config(row)
    full = row.kind == table.FULL_MODEL
    details = {
        "baseModel": row.base_model,
        "r": config.get("r", 0),
        "targetModules": config.get("target_modules") or [],
    }
    return Model.model_validate(
        {
            "name": row.name,
            "displayName": row.details.get("displayName", row.name.rsplit("/", 1)[-1]),
            "kind": row.kind,
            "state": row.state,
            "baseModel": row.base_model,
            "peftDetails": details if config and not full else None,
            "baseModelDetails": base_model_details(Path(row.adapter_path)) if full else None,
            "contextLength": context_length(Path(row.adapter_path)) if full else None,
            "tunable": True if full else None,
            "rlTunable": True if full else None,
            "fineTuningJob": row.job,
            "sha256": row.sha256,
            "createTime": row.created,
        }
    ).dump()
