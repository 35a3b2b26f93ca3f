"""The evaluator's sources that a job was scored by, and what changed from one to the next."""

from __future__ import annotations

import difflib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import TunesmithError
from tunesmith.schemas.wire import Time, Wire
from tunesmith.server.control import ControlPlane

LARGEST_FILE = 64 * 1024
"""Bytes; what is larger is data, and is named without its text."""

Sources = dict[str, str | None]


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
        files = _sources(control, job, row, number)
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
                "files": [{"path": path, "text": text} for path, text in sorted(files.items())],
                "diff": None if before is None else differences(before, files),
            }
        )
        before = files
    return found


def differences(before: Sources, after: Sources) -> list[dict[str, Any]]:
    """`{"path", "status", "diff"}` of each file that is not the same in both; `diff` is unified, null for what is no text."""
    found = []
    for path in sorted({*before, *after}):
        if path in before and path in after and before[path] == after[path]:
            continue
        status = "added" if path not in before else "removed" if path not in after else "changed"
        old, new = before.get(path, ""), after.get(path, "")
        lines = None
        if old is not None and new is not None:
            compared = difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="")
            lines = "\n".join(compared)
        found.append({"path": path, "status": status, "diff": lines})
    return found


def _sources(control: ControlPlane, job: Job, row: EvaluatorVersion | None, number: int) -> Sources:
    """Files of a version: of its archive, else of its built folder; nothing where neither is there any more."""
    if row is not None:
        try:
            return _in_archive(control.objects.read(row.archive_key))
        except (TunesmithError, OSError, tarfile.TarError):
            pass  # it was removed with its evaluator; what was built may still be there
    folder = row.build_dir if row is not None else None
    if folder is None and number == job.spec["evaluator_version"]:
        folder = job.spec["evaluator_dir"]
    return _in_folder(Path(folder) / "src") if folder else {}


def _in_archive(content: bytes) -> Sources:
    found: Sources = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            if member.isfile() and not _made_by_python(member.name):
                file = archive.extractfile(member) if member.size <= LARGEST_FILE else None
                found[member.name.removeprefix("./")] = _text(file.read()) if file else None
    return found


def _in_folder(folder: Path) -> Sources:
    found: Sources = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not _made_by_python(name):
            found[name] = _text(path.read_bytes()) if path.stat().st_size <= LARGEST_FILE else None
    return found


def _made_by_python(name: str) -> bool:
    return "__pycache__/" in name or name.endswith(".pyc")


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
