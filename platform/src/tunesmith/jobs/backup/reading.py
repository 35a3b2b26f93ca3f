"""From a backup to a data folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard

from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.jobs.backup.writing import DATABASES, FORMAT, MANIFEST

_CHUNK = 1 << 20
_PATHS = (
    ("evaluators", "build_dir"),
    ("evaluator_versions", "build_dir"),
    ("models", "adapter_path"),
    ("policies", "adapter_path"),
    ("ingest", "path"),
)
"""Columns that hold absolute paths."""
_JSON = (("jobs", "spec"), ("jobs", "progress"), ("models", "details"), ("sessions", "document"))
"""Columns whose texts may."""


@dataclass(frozen=True)
class Restored:
    """What was restored."""

    data_dir: Path
    files: int
    created: float
    """When the backup was made (Unix seconds)."""
    version: str
    """Of the Tunesmith that made it."""
    unfinished: int
    """Jobs that go on with the next start."""


def restore(archive: Path, data_dir: Path) -> Restored:
    """Make `data_dir` from a backup; it appears whole, once every hash is right, or not at all.

    Raises:
        FailedPrecondition: the folder holds something already, or cannot be written.
        InvalidArgument: the file is no backup, was cut or changed, or is of a newer version.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise FailedPrecondition(
            f"{data_dir} is not empty. A backup is restored into a new folder: name another with --data-dir."
        )
    temporary = data_dir.with_name(f".{data_dir.name}.{os.getpid()}.restoring")
    try:
        temporary.mkdir(parents=True, mode=0o700)
        manifest, hashes = _extract(archive, temporary)
        _check(archive, manifest, hashes)
        _move(temporary, Path(manifest["data_dir"]), data_dir)
        unfinished = _free_jobs(temporary / DATABASES[0])
        if data_dir.exists():
            data_dir.rmdir()
        temporary.rename(data_dir)
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, KeyError) as error:
        raise InvalidArgument(f"{archive} is no backup of Tunesmith, or not a whole one: {error}.") from error
    except OSError as error:
        raise FailedPrecondition(f"{archive} cannot be restored into {data_dir}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Restored(data_dir, len(hashes), float(manifest["created"]), str(manifest["tunesmith"]), unfinished)


def _extract(archive: Path, target: Path) -> tuple[dict, dict[str, str]]:
    """Unpack into an empty folder; the manifest (empty when there is none) and the hash of every other file."""
    manifest: dict = {}
    hashes: dict[str, str] = {}
    with open(archive, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                if member.name == MANIFEST:
                    content = tar.extractfile(member)
                    manifest = json.loads(content.read()) if content else {}
                    continue
                path = _inside(archive, target, member.name)
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if member.isdir():
                    path.mkdir(exist_ok=True)
                    path.chmod(member.mode & 0o777 | 0o700)
                elif member.issym():
                    path.symlink_to(member.linkname)
                    hashes[member.name] = hashlib.sha256(member.linkname.encode()).hexdigest()
                elif member.isreg() and (source := tar.extractfile(member)) is not None:
                    hashes[member.name] = _write(source, path, member)
                else:
                    raise InvalidArgument(f"{archive} holds {member.name!r}, which no backup does.")
    return manifest, hashes


def _inside(archive: Path, target: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    path = target.joinpath(*parts)
    if name.startswith("/") or ".." in parts or not path.parent.resolve().is_relative_to(target.resolve()):
        raise InvalidArgument(
            f"{archive} holds {name!r}, which would lie outside the data folder. It is no backup of Tunesmith."
        )
    return path


def _write(source: IO[bytes], path: Path, member: tarfile.TarInfo) -> str:
    digest = hashlib.sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    path.chmod(member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))
    return digest.hexdigest()


def _check(archive: Path, manifest: dict, hashes: dict[str, str]) -> None:
    if not manifest:
        raise InvalidArgument(f"{archive} has no manifest: it was cut, or is no backup of Tunesmith.")
    if manifest.get("format") != FORMAT:
        raise InvalidArgument(
            f"{archive} was made by Tunesmith {manifest.get('tunesmith')} in a format that this version does not know. Restore it with that version."
        )
    expected: dict[str, str] = manifest["sha256"]
    wrong = sorted(name for name in expected | hashes if expected.get(name) != hashes.get(name))
    if wrong:
        raise InvalidArgument(
            f"{archive} is damaged: {len(wrong)} of {len(expected)} files are not what was backed up (first {wrong[0]}). Nothing was restored."
        )


def _move(folder: Path, old: Path, new: Path) -> None:
    """Have everything that names a path in the old data folder name it in the new one."""
    if old == new:
        return
    before, after = f"{old}/", f"{new}/"
    with closing(sqlite3.connect(folder / DATABASES[0])) as connection, connection:
        for table, column in _PATHS:
            connection.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)', (before, after))
        for table, column in _JSON:
            for form in (lambda text: text, lambda text: json.dumps(text)[1:-1]):
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                    (form(before), form(after), form(before)),
                )
    for file in [
        *folder.glob("runs/*/*.json"),
        *folder.glob("evaluations/*/*.json"),
        *folder.glob("sessions/*/*.json"),
    ]:
        text = file.read_text()
        for form in (lambda text: text, lambda text: json.dumps(text)[1:-1]):
            text = text.replace(form(before), form(after))
        file.write_text(text)
    for file in folder.glob("evaluators/*/*/*/venv/pyvenv.cfg"):
        file.write_text(file.read_text().replace(before, after))


def _free_jobs(database: Path) -> int:
    """Nobody holds a job any more; how many are to be taken up."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE jobs SET lease_expires = ?, lease_owner = NULL WHERE lease_owner IS NOT NULL", (time.time(),)
        )
        query = "SELECT count(*) FROM jobs WHERE completed IS NULL AND kind NOT IN ('session', 'deployment')"
        return connection.execute(query).fetchone()[0]
