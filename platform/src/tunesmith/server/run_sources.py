"""The evaluator's sources that a job was scored by, and what changed from one to the next."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import TunesmithError
from tunesmith.evaluators.sources import SourceFile, compare, read_files, unpacked
from tunesmith.schemas.wire import Time, Wire
from tunesmith.server.control import ControlPlane

LONGEST_TEXT = 64 * 1024
"""Bytes; what is larger is data, and is named without its text."""


class RunEvaluatorVersion(Wire):
    """One of them, without its files."""

    name: str
    version: int
    origin: str = "upload"
    message: str = ""
    state: str = "ACTIVE"
    entry_point: str = ""
    create_time: Time | None = None


def evaluator_versions(session: Session, control: ControlPlane, job: Job, used: Iterable[Any]) -> list[dict[str, Any]]:
    """`RunEvaluatorVersion`s of a job, oldest first: that of its beginning and those that scored a step."""
    scored = {version for version in used if isinstance(version, int)}
    found, before = [], None
    for number in sorted({int(job.spec["evaluator_version"]), *scored}):
        name = f"{job.spec['evaluator']}/versions/{number}"
        row = session.get(EvaluatorVersion, name)
        files = _files(control, job, row, number)
        known = RunEvaluatorVersion(name=name, version=number, entry_point=job.spec.get("entry_point", ""))
        if row is not None:
            fields = {field: getattr(row, field) for field in ("origin", "message", "state", "entry_point")}
            known = RunEvaluatorVersion.model_validate(
                {"name": name, "version": number, "createTime": row.created, **fields}
            )
        found.append(
            {
                **known.dump(),
                "used": number in scored,
                "files": [{"path": file.path, "size": file.size, "text": _short(file.text)} for file in files],
                "diff": None
                if before is None
                else [{**each, "diff": _short(each["diff"])} for each in compare(before, files)],
            }
        )
        before = files
    return found


def _files(control: ControlPlane, job: Job, row: EvaluatorVersion | None, number: int) -> list[SourceFile]:
    """Files of a version: of its archive, else of its built folder; nothing where neither is there any more."""
    if row is not None:
        try:
            with tempfile.TemporaryDirectory(dir=control.scratch()) as folder:
                with unpacked(control.objects.download(row.archive_key, Path(folder) / "source.tar.gz")) as source:
                    return read_files(source)
        except (TunesmithError, OSError):
            pass  # it was removed with its evaluator; what was built may still be there
    built = row.build_dir if row is not None else None
    if built is None and number == job.spec["evaluator_version"]:
        built = job.spec["evaluator_dir"]
    files = read_files(Path(built) / "src") if built else []
    return [file for file in files if "__pycache__/" not in file.path]


def _short(text: str | None) -> str | None:
    return text if text is not None and len(text.encode()) <= LONGEST_TEXT else None
