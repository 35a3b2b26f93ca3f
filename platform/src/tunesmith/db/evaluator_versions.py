"""Versions of an evaluator's source: every upload and every edit is one, kept with its archive until the evaluator is deleted."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tunesmith.db.tables import Evaluator, EvaluatorVersion
from tunesmith.errors import NotFound

UPLOAD, EDIT = "upload", "edit"


def version_name(evaluator: str, version: int) -> str:
    """Resource name of a version."""
    return f"{evaluator}/versions/{version}"


def add_version(session: Session, evaluator: Evaluator, archive_key: str, origin: str, message: str) -> None:
    """Record the source that the evaluator's current version is about to be built from."""
    session.merge(
        EvaluatorVersion(
            name=version_name(evaluator.name, evaluator.version),
            evaluator=evaluator.name,
            version=evaluator.version,
            archive_key=archive_key,
            entry_point=evaluator.spec.get("entryPoint") or "",
            origin=origin,
            message=message,
            state=evaluator.state,
            status=evaluator.status,
            created=time.time(),
            updated=time.time(),
        )
    )


def get_version(session: Session, evaluator: str, version: int) -> EvaluatorVersion:
    """That version of an evaluator (resource name). Raises NotFound."""
    row = session.get(EvaluatorVersion, version_name(evaluator, version))
    if row is None:
        newest = newest_version(session, evaluator)
        there = f"Its newest is {newest}." if newest else "It has none yet: upload its source first."
        raise NotFound(f"The evaluator {evaluator} has no version {version}. {there}")
    return row


def newest_version(session: Session, evaluator: str) -> int:
    """Number of the newest version; 0 when there is none."""
    return session.scalar(select(func.max(EvaluatorVersion.version)).where(_of(evaluator))) or 0


def list_versions(session: Session, evaluator: str) -> list[EvaluatorVersion]:
    """All versions of an evaluator, newest first, without their logs being read."""
    return list(
        session.scalars(select(EvaluatorVersion).where(_of(evaluator)).order_by(EvaluatorVersion.version.desc()))
    )


def built_before(session: Session, evaluator: str, version: int) -> str | None:
    """Folder of the newest build that is older than a version; None when there is none."""
    query = select(EvaluatorVersion.build_dir).where(
        _of(evaluator), EvaluatorVersion.version < version, EvaluatorVersion.build_dir.is_not(None)
    )
    return session.scalar(query.order_by(EvaluatorVersion.version.desc()).limit(1))


def settle_version(
    session: Session, evaluator: str, version: int, *, state: str, status: dict[str, Any], built: dict[str, Any] | None
) -> None:
    """Note how a version's build ended; `built` is `{"build_dir", "described"}` where it went well. A deleted one stays so."""
    row = session.get(EvaluatorVersion, version_name(evaluator, version))
    if row is None:
        return
    row.state, row.status, row.updated = state, status, time.time()
    if built is not None:
        row.build_dir, row.described = built["build_dir"], built["described"]


def forget_versions(session: Session, evaluator: str) -> list[str]:
    """Remove all versions of an evaluator; the keys of their archives."""
    keys = list(session.scalars(select(EvaluatorVersion.archive_key).where(_of(evaluator))))
    session.execute(delete(EvaluatorVersion).where(_of(evaluator)))
    return keys


def _of(evaluator: str) -> Any:
    return EvaluatorVersion.evaluator == evaluator
