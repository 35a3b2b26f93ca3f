"""Versions of an evaluator: their source, what differs between them, edits, and what the evaluator scored."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db import evaluator_versions as table
from tunesmith.db.evaluators import check_newest, get_evaluator, start_edit
from tunesmith.db.session import reading
from tunesmith.db.tables import Evaluator as EvaluatorRow
from tunesmith.db.tables import EvaluatorVersion as VersionRow
from tunesmith.evaluators import sources
from tunesmith.evaluators.declaration import Declaration
from tunesmith.schemas.evaluator_versions import EvaluatorEdit, EvaluatorResult, EvaluatorVersion
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, ControlPlane, Reader
from tunesmith.server.evaluator_results import results_of

router = APIRouter(prefix="/v1/accounts/{account_id}/evaluators/{evaluator_id}", tags=["evaluators"])


@router.get("/versions")
def list_(account: AccountId, evaluator_id: str, session: Reader) -> dict[str, Any]:
    """Every upload and every edit, newest first."""
    evaluator = get_evaluator(session, _name(account, evaluator_id))
    return {"evaluatorVersions": [version_wire(row, evaluator) for row in table.list_versions(session, evaluator.name)]}


@router.get("/versions/{version}")
def get(account: AccountId, evaluator_id: str, version: int, session: Reader) -> dict[str, Any]:
    """One version, with its build log."""
    evaluator = get_evaluator(session, _name(account, evaluator_id))
    row = table.get_version(session, evaluator.name, version)
    return {**version_wire(row, evaluator), "buildLog": row.build_log}


@router.get("/versions/{version}/source")
def source(account: AccountId, evaluator_id: str, version: int, control: Control) -> dict[str, Any]:
    """The files of a version."""
    files = _files(control, _name(account, evaluator_id), version)
    return {"files": [{"path": file.path, "size": file.size, "text": file.text} for file in files]}


@router.get("/versions/{version}/diff")
def diff(
    account: AccountId,
    evaluator_id: str,
    version: int,
    control: Control,
    base: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """What a version has otherwise than version `base`; without one, than the version before it."""
    name = _name(account, evaluator_id)
    with reading(control.sessions) as session:
        older = [row.version for row in table.list_versions(session, name) if row.version < version]
    before = _files(control, name, base or older[0]) if base is not None or older else []
    return {"files": sources.compare(before, _files(control, name, version))}


@router.post(":edit")
def edit(account: AccountId, evaluator_id: str, body: EvaluatorEdit, control: Control) -> dict[str, Any]:
    """Make the next version by changing files of the newest, and queue its build. Without any change the answer is the base version."""
    name = _name(account, evaluator_id)
    with reading(control.sessions) as session:
        evaluator = get_evaluator(session, name)
        base = table.get_version(session, name, body.base_version)
        check_newest(session, name, base.version)
    with _unpacked(control, name, base.version) as folder:
        if not sources.apply(folder, body.files):
            return version_wire(base, evaluator)
        Declaration.read(folder)
        packed = folder.parent / "edited.tar.gz"
        sources.pack(folder, packed)
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()[:32]
        key = f"evaluators/{account}/{evaluator_id}/edits/{base.version + 1}-{digest}.tar.gz"
        control.objects.put_file(key, packed)
    with control.sessions.begin() as session:
        start_edit(session, name, body.base_version, key, body.message)
        session.flush()
        evaluator = get_evaluator(session, name)
        return version_wire(table.get_version(session, name, evaluator.version), evaluator)


@router.get("/results")
def results(account: AccountId, evaluator_id: str, session: Reader) -> dict[str, Any]:
    """What the evaluator scored: evaluations that ran here and RFT jobs, newest first."""
    name = get_evaluator(session, _name(account, evaluator_id)).name
    found = [EvaluatorResult.model_validate(result) for result in results_of(session, name)]
    return {"results": [{"model": None, "meanScore": None, **result.dump()} for result in found]}


def _files(control: ControlPlane, name: str, version: int) -> list[sources.SourceFile]:
    with _unpacked(control, name, version) as folder:
        return sources.read_files(folder)


@contextmanager
def _unpacked(control: ControlPlane, name: str, version: int) -> Iterator[Path]:
    with reading(control.sessions) as session:
        key = table.get_version(session, name, version).archive_key
    with tempfile.TemporaryDirectory(dir=control.scratch()) as folder:
        with sources.unpacked(control.objects.download(key, Path(folder) / "source.tar.gz")) as source:
            yield source


def _name(account: str, evaluator: str) -> str:
    return resource_name(account, "evaluators", evaluator)


def version_wire(row: VersionRow, evaluator: EvaluatorRow) -> dict[str, Any]:
    """A version as the API shows it."""
    return EvaluatorVersion.model_validate(
        {
            "name": row.name,
            "version": row.version,
            "origin": row.origin,
            "message": row.message,
            "state": row.state,
            "status": row.status,
            "entryPoint": row.entry_point,
            "described": row.described,
            "createTime": row.created,
            "updateTime": row.updated,
            "current": evaluator.version == row.version,
        }
    ).dump()
