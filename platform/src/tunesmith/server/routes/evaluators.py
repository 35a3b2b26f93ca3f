"""Evaluators: create, upload the project, queue its build, follow it."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse

from tunesmith.db import evaluators as table
from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.session import reading
from tunesmith.db.tables import Evaluator as EvaluatorRow
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.evaluators import archive, declaration
from tunesmith.schemas.evaluators import Evaluator, EvaluatorCreate, EvaluatorInput
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.wire import SignedUrls, UploadRequest
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, ControlPlane, Listing, Reader, Writer
from tunesmith.server.routes.objects import object_path

router = APIRouter(prefix="/v1/accounts/{account_id}", tags=["evaluators"])
_ARCHIVE = re.compile(r"[^/\x00-\x1f]{1,200}\.(tar\.gz|tgz)")


@router.post("/evaluatorsV2")
def create(account: AccountId, body: EvaluatorCreate, session: Writer) -> dict[str, Any]:
    """Make an evaluator that waits for its source. Repeating the call is fine."""
    name = _name(account, body.evaluator_id)
    check_id(short_id(name), "evaluatorId")
    _refuse_snippets(body.evaluator)
    return _wire(table.create_evaluator(session, account_name(account), name, body.evaluator.given()))


@router.get("/evaluators")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of evaluators, newest first."""
    rows, token = table.list_evaluators(session, account_name(account), listing)
    return {"evaluators": [_wire(row) for row in rows], "nextPageToken": token}


@router.post("/evaluators/{evaluator_id}:getUploadEndpoint")
def get_upload_endpoint(
    account: AccountId, evaluator_id: str, body: UploadRequest, request: Request, session: Writer, control: Control
) -> dict[str, Any]:
    """A signed URL for the project's .tar.gz; its size is binding."""
    if len(body.filename_to_size) != 1:
        raise InvalidArgument("filenameToSize must name exactly one file: the .tar.gz of the evaluator's project.")
    filename, size = next(iter(body.filename_to_size.items()))
    if not _ARCHIVE.fullmatch(filename):
        raise InvalidArgument(f"filenameToSize: {filename[:80]!r} is not the name of a .tar.gz file.")
    if not 0 < size <= control.settings.max_upload_bytes:
        raise InvalidArgument(
            f"filenameToSize: the archive has {size} bytes; it must have between 1 and {control.settings.max_upload_bytes}. "
            "Leave data and build outputs out of it (.gitignore is respected)."
        )
    name = _name(account, evaluator_id)
    key = table.set_pending_source(session, name, filename, size)
    url = control.signed_url(request, "PUT", object_path(key), size)
    return SignedUrls(filename_to_signed_urls={filename: url}).dump()


@router.post("/evaluators/{evaluator_id}:validateUpload")
def validate_upload(account: AccountId, evaluator_id: str, control: Control) -> dict[str, Any]:
    """Queue the build of what was uploaded, unless its `tunesmith.toml` is wrong. Repeating the call queues nothing twice."""
    name = _name(account, evaluator_id)
    with reading(control.sessions) as session:
        pending = table.pending_source(session, name)
    if pending is not None:
        _check_declaration(control, name, pending)
    with control.sessions.begin() as session:
        _check_arrived(control, table.pending_source(session, name))  # there may be another one by now
        table.start_build(session, name)
    return {}


@router.get("/evaluators/{evaluator_id}:getBuildLogEndpoint")
def get_build_log_endpoint(
    account: AccountId, evaluator_id: str, request: Request, session: Reader, control: Control
) -> dict[str, Any]:
    """A signed URL of the build log."""
    name = table.get_evaluator(session, _name(account, evaluator_id)).name
    return {"buildLogSignedUri": control.signed_url(request, "GET", _log_path(name))}


@router.get("/evaluators/{evaluator_id}/buildLog", include_in_schema=False)
def build_log(account_id: str, evaluator_id: str, request: Request, session: Reader, control: Control) -> Any:
    """The build log itself, by signed URL."""
    name = _name(account_id, evaluator_id)
    control.signer.check("GET", _log_path(name), request.query_params)
    evaluator = table.get_evaluator(session, name)
    headers = {"x-content-type-options": "nosniff"}
    return PlainTextResponse(evaluator.build_log or "(nothing was built yet)\n", headers=headers)


@router.get("/evaluators/{evaluator_id}:getSourceCodeSignedUrl")
def get_source_code_signed_url(
    account: AccountId, evaluator_id: str, request: Request, session: Reader, control: Control
) -> dict[str, Any]:
    """A signed URL of the uploaded archive."""
    evaluator = table.get_evaluator(session, _name(account, evaluator_id))
    if evaluator.archive_key is None:
        raise FailedPrecondition(f"The evaluator {evaluator.name} has no source yet. Upload it first.")
    url = control.signed_url(request, "GET", object_path(evaluator.archive_key))
    return SignedUrls(filename_to_signed_urls={short_id(evaluator.archive_key): url}).dump()


@router.get("/evaluators/{evaluator_id}")
def get(account: AccountId, evaluator_id: str, session: Reader) -> dict[str, Any]:
    """One evaluator and the state of its newest version."""
    return _wire(table.get_evaluator(session, _name(account, evaluator_id)))


@router.patch("/evaluators/{evaluator_id}")
def update(
    account: AccountId,
    evaluator_id: str,
    body: EvaluatorInput,
    session: Writer,
    prepare_code_upload: Annotated[bool, Query(alias="prepareCodeUpload")] = False,
) -> dict[str, Any]:
    """Change what describes the evaluator; with `prepareCodeUpload` a new version waits for its source."""
    _refuse_snippets(body)
    changes = body.given()
    if "entryPoint" in changes and not prepare_code_upload:
        raise InvalidArgument(
            "entryPoint: a new entry point needs a new build; add ?prepareCodeUpload=true and upload again."
        )
    return _wire(table.update_evaluator(session, _name(account, evaluator_id), changes, prepare_code_upload))


@router.delete("/evaluators/{evaluator_id}")
def delete(account: AccountId, evaluator_id: str, control: Control) -> dict[str, Any]:
    """Remove an evaluator. What running jobs pinned stays until they end."""
    name = _name(account, evaluator_id)
    with control.sessions.begin() as session:
        evaluator, archives = table.delete_evaluator(session, name)
        in_use = running_jobs_using(session, evaluator.account, name, ("evaluator",))
    if not in_use:
        shutil.rmtree(control.settings.path("evaluators", account, short_id(name)), ignore_errors=True)
        for key in archives:
            control.objects.delete(key)
    return {}


def _check_arrived(control: ControlPlane, pending: dict[str, Any] | None) -> None:
    if pending is not None and control.objects.size(pending["key"]) != pending["size"]:
        raise FailedPrecondition(
            f"The file {pending['filename']!r} has not arrived: PUT its {pending['size']} bytes to its URL first."
        )


def _check_declaration(control: ControlPlane, name: str, pending: dict[str, Any]) -> None:
    """Raise InvalidArgument when what the owner allows cannot be read: without `--wait` nobody would look at the build's log."""
    _check_arrived(control, pending)
    with tempfile.TemporaryDirectory(dir=control.scratch()) as folder:
        source = control.objects.download(pending["key"], Path(folder) / "source.tar.gz")
        try:
            content = archive.read_small(source, declaration.FILE, declaration.LONGEST + 1)
        except InvalidArgument:
            return  # the build says what is wrong with the archive
    try:
        declaration.Declaration.parse(content or b"")
    except InvalidArgument as error:
        with control.sessions.begin() as session:
            if table.pending_source(session, name) == pending:  # else another one is awaited by now
                table.refuse_source(session, name, error.code, error.message)
        raise


def _name(account: str, evaluator: str) -> str:
    return resource_name(account, "evaluators", evaluator)


def _log_path(name: str) -> str:
    return f"/v1/{name}/buildLog"


def _refuse_snippets(evaluator: EvaluatorInput) -> None:
    if evaluator.criteria:
        raise InvalidArgument(
            "criteria: code snippets are not supported here; upload a project with an @evaluation_test."
        )


def _wire(row: EvaluatorRow) -> dict[str, Any]:
    spec = {key: value for key, value in row.spec.items() if key != "pendingUpload"}
    state, status = row.state, row.status
    if table.source_overdue(row):
        message = "Its source was never uploaded. Create it again with --force."
        state, status = table.BUILD_FAILED, {"code": "FAILED_PRECONDITION", "message": message}
    return Evaluator.model_validate(
        {
            **spec,
            "name": row.name,
            "state": state,
            "status": status,
            "version": row.version,
            "createTime": row.created,
            "updateTime": row.updated,
        }
    ).dump()
