"""Datasets: announce, upload (in one request or by signed URLs), find, download, delete."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from tunesmith.db import datasets as table
from tunesmith.db.session import reading
from tunesmith.db.tables import Dataset as DatasetRow
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.schemas.datasets import Dataset, DatasetCreate, DatasetInput, RenderPreviewInput, UploadedFile
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.wire import SignedUrls, UploadRequest
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Listing, Reader, Writer
from tunesmith.server.render_preview import preview
from tunesmith.server.routes.objects import object_path
from tunesmith.server.uploads import fill_from_file, fill_from_pending

router = APIRouter(prefix="/v1/accounts/{account_id}/datasets", tags=["datasets"])
MAX_FILES = 64


@router.post("")
def create(account: AccountId, body: DatasetCreate, session: Writer) -> dict[str, Any]:
    """Announce a dataset; its rows come next."""
    name = _name(account, body.dataset_id)
    check_id(short_id(name), "datasetId")
    if body.source_dataset_id is not None:
        raise InvalidArgument("sourceDatasetId: copying a dataset is not supported here; upload its rows.")
    _refuse_external(body.dataset)
    return _wire(table.create_dataset(session, account_name(account), name, body.dataset.given()))


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of datasets, newest first."""
    rows, token = table.list_datasets(session, account_name(account), listing)
    return {"datasets": [_wire(row) for row in rows], "nextPageToken": token}


@router.post("/{dataset_id}:upload")
async def upload(account: AccountId, dataset_id: str, request: Request, control: Control) -> dict[str, Any]:
    """Take all rows as the multipart part `file`; answers when they are checked and stored."""
    try:
        form = await request.form(max_files=1, max_fields=16)
    except MultiPartException as error:
        raise InvalidArgument(f"The multipart body is broken: {error.message}") from error
    async with AsyncExitStack() as stack:
        stack.push_async_callback(form.close)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidArgument(
                "Send the rows as multipart/form-data with one part named 'file' that has a filename."
            )
        filled = await run_in_threadpool(fill_from_file, control, _name(account, dataset_id), file.file)
        return UploadedFile(
            id=filled.name, bytes=filled.bytes, created_at=int(time.time()), filename=file.filename or ""
        ).model_dump()


@router.post("/{dataset_id}:getUploadEndpoint")
def get_upload_endpoint(
    account: AccountId, dataset_id: str, body: UploadRequest, request: Request, session: Writer, control: Control
) -> dict[str, Any]:
    """A signed URL for each file; their sizes are binding. Files of an earlier call are forgotten."""
    name, limit = _name(account, dataset_id), control.settings.max_upload_bytes
    sizes = body.filename_to_size
    if not 1 <= len(sizes) <= MAX_FILES:
        raise InvalidArgument(f"filenameToSize must name between 1 and {MAX_FILES} files.")
    if min(sizes.values()) <= 0 or sum(sizes.values()) > limit:
        raise InvalidArgument(f"filenameToSize: each size must be above 0, and all together at most {limit} bytes.")
    files = {
        filename: {"key": f"uploads/{account}/datasets/{dataset_id}/{index}.jsonl", "size": size}
        for index, (filename, size) in enumerate(sorted(sizes.items()))
    }
    table.set_pending_upload(session, name, files)
    urls = {
        filename: control.signed_url(request, "PUT", object_path(file["key"]), file["size"])
        for filename, file in files.items()
    }
    return SignedUrls(filename_to_signed_urls=urls).dump()


@router.post("/{dataset_id}:validateUpload")
def validate_upload(account: AccountId, dataset_id: str, control: Control) -> dict[str, Any]:
    """Check what was put to the signed URLs; the dataset is READY when this answers 200."""
    fill_from_pending(control, _name(account, dataset_id))
    return {}


@router.get("/{dataset_id}:getDownloadEndpoint")
def get_download_endpoint(
    account: AccountId, dataset_id: str, request: Request, session: Reader, control: Control
) -> dict[str, Any]:
    """A signed URL of the rows."""
    dataset = table.get_dataset(session, _name(account, dataset_id))
    if dataset.object_key is None:
        raise FailedPrecondition(f"The dataset {dataset.name} has no rows yet. Upload them first.")
    url = control.signed_url(request, "GET", object_path(dataset.object_key))
    return SignedUrls(filename_to_signed_urls={f"{short_id(dataset.name)}.jsonl": url}).dump()


@router.post("/{dataset_id}:renderPreview")
def render_preview(account: AccountId, dataset_id: str, body: RenderPreviewInput, control: Control) -> dict[str, Any]:
    """How rows are rendered for a base model, and what of them is trained."""
    with reading(control.sessions) as session:
        dataset = table.get_dataset(session, _name(account, dataset_id))
    return preview(control, account, dataset, body)


@router.get("/{dataset_id}")
def get(account: AccountId, dataset_id: str, session: Reader) -> dict[str, Any]:
    """One dataset."""
    return _wire(table.get_dataset(session, _name(account, dataset_id)))


@router.patch("/{dataset_id}")
def update(account: AccountId, dataset_id: str, body: DatasetInput, session: Writer) -> dict[str, Any]:
    """Change what describes the rows; the rows themselves never change."""
    _refuse_external(body)
    changes = body.given()
    if "exampleCount" in changes:
        raise InvalidArgument("exampleCount: it is counted from the rows and cannot be changed.")
    return _wire(table.update_dataset(session, _name(account, dataset_id), changes))


@router.delete("/{dataset_id}")
def delete(account: AccountId, dataset_id: str, control: Control) -> dict[str, Any]:
    """Remove a dataset and its rows."""
    with control.sessions.begin() as session:
        keys = table.delete_dataset(session, _name(account, dataset_id))
    for key in keys:  # after the commit: bytes that nobody names are harmless, names without bytes are not
        control.objects.delete(key)
    return {}


def _name(account: str, dataset: str) -> str:
    return resource_name(account, "datasets", dataset)


def _refuse_external(dataset: DatasetInput) -> None:
    if dataset.external_url:
        raise InvalidArgument("externalUrl: rows in a bucket of your own are not supported here; upload them.")


def _wire(row: DatasetRow) -> dict[str, Any]:
    spec = {key: value for key, value in row.spec.items() if key not in ("pendingUpload", "rowFacts")}
    ready = row.state == table.READY
    if ready and spec.get("format", "FORMAT_UNSPECIFIED") == "FORMAT_UNSPECIFIED":
        spec["format"] = "CHAT"  # both kinds of rows are conversations
    return Dataset.model_validate(
        {
            **spec,
            "name": row.name,
            "state": row.state,
            "status": row.status,
            "exampleCount": row.example_count,
            "bytes": row.bytes or None,
            "rowKind": table.row_facts(row)[0] if ready else None,
            "createTime": row.created,
            "updateTime": row.updated,
        }
    ).dump()
