"""Evaluators: created, their source uploaded, built by a job, then used by pinned version.

Versions of one id only grow, also across delete and create, so that a running job's folder is never built over.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from tunesmith.db.evaluator_versions import EDIT, UPLOAD, add_version, forget_versions, get_version, newest_version
from tunesmith.db.jobs import FINAL_STATES, enqueue, request_cancel
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Evaluator, Job
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound

BUILDING = "BUILDING"
ACTIVE = "ACTIVE"
BUILD_FAILED = "BUILD_FAILED"
BUILD_KIND = "evaluator_build"
UPLOAD_PATIENCE_SECONDS = 900.0
"""An evaluator whose source has not come after this long shows as failed, so that nobody waits for it."""

FIELDS = Fields(
    key=Evaluator.name,
    order={"name": Evaluator.name, "create_time": Evaluator.created, "update_time": Evaluator.updated},
    filters={
        "name": Evaluator.name,
        "state": Evaluator.state,
        "display_name": Evaluator.spec["displayName"].as_string(),
    },
)


def create_evaluator(session: Session, account: str, name: str, spec: dict[str, Any]) -> Evaluator:
    """Make an evaluator that waits for its source. Creating it again is fine with the same spec, or before its source came.

    Raises AlreadyExists.
    """
    existing = session.get(Evaluator, name)
    if existing is not None:
        if existing.archive_key is not None and _sent(existing.spec) != spec:
            raise AlreadyExists(
                f"The evaluator {name} exists already. Delete it first (--force does), or choose another id."
            )
        existing.spec = {**spec, **_pending(existing.spec)}
        return existing
    evaluator = Evaluator(name=name, account=account, spec=spec, version=_next_version(session, name))
    _await_source(evaluator)
    session.add(evaluator)
    session.flush()
    return evaluator


def get_evaluator(session: Session, name: str) -> Evaluator:
    """The evaluator of that resource name. Raises NotFound."""
    evaluator = session.get(Evaluator, name)
    if evaluator is None:
        raise NotFound(
            f"Evaluator '{name.rsplit('/', 1)[-1]}' not found in account {name.split('/')[1]}. Upload it first."
        )
    return evaluator


def update_evaluator(session: Session, name: str, changes: dict[str, Any], new_source: bool) -> Evaluator:
    """Change what the client may set; with `new_source` a new version waits for its upload. Raises NotFound."""
    evaluator = get_evaluator(session, name)
    evaluator.spec = {**evaluator.spec, **changes}
    if new_source:
        evaluator.version = _next_version(session, name)
        evaluator.archive_key = None
        _await_source(evaluator)
    evaluator.updated = time.time()
    return evaluator


def set_pending_source(session: Session, name: str, filename: str, size: int) -> str:
    """Remember the archive that a signed URL is given out for; returns its object key. Raises NotFound."""
    evaluator = get_evaluator(session, name)
    _, account, _, identity = name.split("/")
    key = f"evaluators/{account}/{identity}/{_next_version(session, name)}/source.tar.gz"
    evaluator.spec = {**evaluator.spec, "pendingUpload": {"filename": filename, "key": key, "size": size}}
    evaluator.updated = time.time()
    return key


def pending_source(session: Session, name: str) -> dict[str, Any] | None:
    """The archive that is awaited: {"filename", "key", "size"}. Raises NotFound."""
    return get_evaluator(session, name).spec.get("pendingUpload")


def refuse_source(session: Session, name: str, code: str, message: str) -> None:
    """Stop waiting for a source, because nothing can be built from what came: the evaluator is again what its newest version is.

    One that has no version yet shows the reason. What came stays the archive to validate until another is announced, so that
    who asks again hears the same. Raises NotFound.
    """
    evaluator = get_evaluator(session, name)
    if evaluator.archive_key is not None:
        return
    newest = newest_version(session, name)
    if newest:  # since `update_evaluator` it has been waiting for the next one
        row = get_version(session, name, newest)
        evaluator.version, evaluator.archive_key = row.version, row.archive_key
        evaluator.state, evaluator.status, evaluator.build_log = row.state, row.status, row.build_log
        evaluator.build_dir = row.build_dir or evaluator.build_dir
        if row.entry_point:
            evaluator.spec = {**evaluator.spec, "entryPoint": row.entry_point}
    else:
        evaluator.state, evaluator.status = BUILD_FAILED, {"code": code, "message": message}
    evaluator.updated = time.time()


def start_build(session: Session, name: str) -> Job | None:
    """Queue the build of the pending archive; None when there is none because it is queued already.

    Raises NotFound, FailedPrecondition when no upload was ever asked for.
    """
    evaluator = get_evaluator(session, name)
    pending = evaluator.spec.get("pendingUpload")
    if pending is None:
        if evaluator.archive_key is None:
            raise FailedPrecondition(
                f"The evaluator {name} has no upload to validate: ask for :getUploadEndpoint first."
            )
        return None
    evaluator.spec = _sent(evaluator.spec)
    return _build(session, evaluator, pending["key"], UPLOAD, "")


def start_edit(session: Session, name: str, base: int, archive_key: str, message: str) -> Job:
    """Queue the build of a new version that was made from version `base`. Raises NotFound, AlreadyExists when `base` is not the newest."""
    evaluator = get_evaluator(session, name)
    check_newest(session, name, base)
    return _build(session, evaluator, archive_key, EDIT, message)


def check_newest(session: Session, name: str, base: int) -> None:
    """Raise AlreadyExists when an edit of an evaluator's version `base` would lose what a newer one changed."""
    newest = newest_version(session, name)
    if base != newest:
        raise AlreadyExists(
            f"The evaluator {name} is at version {newest}, and this edit was made from version {base}. "
            f"Look at what version {newest} changed, and make the edit from it."
        )


def _build(session: Session, evaluator: Evaluator, archive_key: str, origin: str, message: str) -> Job:
    evaluator.version = _next_version(session, evaluator.name)
    evaluator.archive_key = archive_key
    evaluator.state, evaluator.build_log = BUILDING, ""
    evaluator.status = {"code": "OK", "message": "Waiting for its build."}
    evaluator.updated = time.time()
    add_version(session, evaluator, archive_key, origin, message)
    spec = {"evaluator": evaluator.name, "version": evaluator.version, "archive_key": archive_key}
    return enqueue(session, f"{evaluator.name}/builds/{evaluator.version}", evaluator.account, BUILD_KIND, spec)


def source_overdue(evaluator: Evaluator) -> bool:
    """Whether an evaluator has waited too long for its source to be expected still."""
    return evaluator.archive_key is None and time.time() - evaluator.updated > UPLOAD_PATIENCE_SECONDS


def delete_evaluator(session: Session, name: str) -> tuple[Evaluator, list[str]]:
    """Remove an evaluator with its versions and cancel its builds; its row, and the keys of its archives.

    What it built stays as long as jobs pin it. Raises NotFound.
    """
    evaluator = get_evaluator(session, name)
    unfinished = select(Job.name).where(_builds_of(name), Job.state.not_in(FINAL_STATES))
    for build in session.scalars(unfinished).all():
        request_cancel(session, build)
    keys = forget_versions(session, name)
    session.delete(evaluator)
    return evaluator, keys


def list_evaluators(session: Session, account: str, query: ListQuery) -> tuple[list[Evaluator], str]:
    """One page of an account's evaluators and the token of the next."""
    return page(session, Evaluator, [Evaluator.account == account], FIELDS, query)


def _await_source(evaluator: Evaluator) -> None:
    evaluator.state = BUILDING
    evaluator.status = {"code": "OK", "message": "Waiting for its source to be uploaded."}


def _next_version(session: Session, name: str) -> int:
    return (session.scalar(select(func.count()).where(_builds_of(name))) or 0) + 1  # build jobs are never deleted


def _builds_of(name: str) -> ColumnElement[bool]:
    return and_(Job.kind == BUILD_KIND, Job.name.startswith(f"{name}/builds/", autoescape=True))


def _pending(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key == "pendingUpload"}


def _sent(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "pendingUpload"}
