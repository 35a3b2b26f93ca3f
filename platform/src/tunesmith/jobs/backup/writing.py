"""From a data folder, in use or not, to a backup."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import zstandard

from tunesmith.errors import AlreadyExists, FailedPrecondition

FORMAT = 1
MANIFEST = "manifest.json"
DATABASES = ("tunesmith.db", "completions.db")
FIRST_OF_A_RUN = ("status.json", "events.jsonl", "adapters", "checkpoints", "evaluation", "metrics.jsonl", "batches")
"""In this order; each rests on what comes after it."""
LAST_OF_A_RUN = ("rollouts.jsonl", "asked.json")
"""A higher attempt number than was used does no harm, a lower one would."""
SMALL_FILES = ("config.json", "prices.json", "collected.json")
_LEVEL = 3


@dataclass(frozen=True)
class BackedUp:
    """What was written."""

    path: Path
    files: int
    """With links, as `restore` counts them; without the list of their hashes."""
    content_bytes: int
    bytes: int
    """Of the archive."""


def back_up(
    data_dir: Path,
    target: Path,
    *,
    models: bool = False,
    overwrite: bool = False,
    told: Callable[[str, int], None] = lambda name, size: None,
) -> BackedUp:
    """Write everything that a data folder holds into `target`, which appears whole or not at all.

    Left out are logs, sockets, uv's cache and, unless `models`, downloaded base models.

    Args:
        data_dir: a platform's data folder; the platform may be running.
        target: file to write (0600).
        models: also downloaded base models.
        overwrite: replace a file that is there, once the new one is whole.
        told: called for each file with its name and bytes.

    Raises FailedPrecondition when there is no platform, or the file cannot be written; AlreadyExists for a file that is there.
    """
    if not (data_dir / DATABASES[0]).exists():
        raise FailedPrecondition(f"{data_dir} is no data folder of Tunesmith (it has no {DATABASES[0]}).")
    _check_free(target, overwrite)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file, tempfile.TemporaryDirectory(prefix=".backup-", dir=data_dir) as staging:
            writer = _Writer(file, data_dir, Path(staging), told)
            writer.write(models=models)
            file.flush()
            os.fsync(file.fileno())
        _check_free(target, overwrite)  # writing takes minutes
        temporary.replace(target)
    except OSError as error:
        raise FailedPrecondition(f"The backup {target} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return BackedUp(target, writer.files, writer.content_bytes, target.stat().st_size)


def _check_free(target: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise AlreadyExists(f"{target} is there already. Give another name, or --force to write over it.")


class _Writer:
    def __init__(self, file: IO[bytes], data_dir: Path, staging: Path, told: Callable[[str, int], None]) -> None:
        self._data = data_dir
        self._staging = staging
        self._told = told
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False)
        self._tar = tarfile.open(fileobj=self._zstd, mode="w|")  # noqa: SIM115 - closed by `write`
        self._hashes: dict[str, str] = {}
        self.content_bytes = 0

    @property
    def files(self) -> int:
        """How many were written so far."""
        return len(self._hashes)

    def write(self, *, models: bool) -> None:
        """Everything, in the order that the package's docstring explains."""
        self._database(DATABASES[0])
        runs = [self._stage_run(folder) for folder in _folders(self._data / "runs")]
        sessions = [
            self._stage_run(folder) for name in ("evaluations", "sessions") for folder in _folders(self._data / name)
        ]
        if (self._data / DATABASES[1]).exists():
            self._database(DATABASES[1])
        for staged in (*runs, *sessions):
            self._tree(staged, self._staging)
        for name in ("answers", "objects", "evaluators", "keys", *(["models"] if models else [])):
            self._tree(self._data / name, self._data)
        for name in SMALL_FILES:
            self._file(self._data / name, name)
        manifest = {
            "format": FORMAT,
            "tunesmith": version("tunesmith"),
            "created": time.time(),
            "data_dir": str(self._data),
            "sha256": self._hashes,
        }
        content = json.dumps(manifest, indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))
        self._tar.close()
        self._zstd.close()

    def _database(self, name: str) -> None:
        """A snapshot of a SQLite file by its own backup: writers go on meanwhile."""
        copy = self._staging / name
        with closing(sqlite3.connect(self._data / name)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("PRAGMA busy_timeout = 30000")
            source.backup(target)
        self._file(copy, name)
        copy.unlink()

    def _stage_run(self, folder: Path) -> Path:
        """Hold a run directory as it is now: links to what is never changed, copies of what is, appended files up to a whole line."""
        target = self._staging / folder.relative_to(self._data)
        target.mkdir(parents=True)
        names = {path.name for path in folder.iterdir()}
        others = sorted(names - set(FIRST_OF_A_RUN) - set(LAST_OF_A_RUN))
        for name in (*FIRST_OF_A_RUN, *others, *LAST_OF_A_RUN):
            if name in names and not name.endswith((".tmp", ".lock", ".sock")):
                self._stage(folder / name, target / name)
        return target

    def _stage(self, source: Path, target: Path) -> None:
        try:
            if source.is_symlink() or not source.is_dir():
                if source.is_file():
                    _hold(source, target)
                return
            target.mkdir()
            for child in sorted(source.iterdir()):
                if not child.name.endswith(".tmp"):
                    self._stage(child, target / child.name)
        except FileNotFoundError:
            # Removed meanwhile (an outdated checkpoint): half a folder would be taken for a whole one.
            shutil.rmtree(target, ignore_errors=True)

    def _tree(self, folder: Path, root: Path) -> None:
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not _is_passing(name))
            for name in sorted(names):
                if not name.endswith(".tmp"):
                    self._file(Path(parent, name), str(Path(parent, name).relative_to(root)))
            for name in list(folders):
                if Path(parent, name).is_symlink():
                    self._file(Path(parent, name), str(Path(parent, name).relative_to(root)))
                    folders.remove(name)
            if parent != str(root):
                self._folder(Path(parent), str(Path(parent).relative_to(root)))

    def _folder(self, path: Path, name: str) -> None:
        try:
            self._tar.addfile(self._tar.gettarinfo(path, name))
        except FileNotFoundError:
            return

    def _file(self, path: Path, name: str) -> None:
        """Add one file, as long as it is at this moment. That it is gone meanwhile is fine: what is needed is not removed."""
        try:
            info = self._tar.gettarinfo(path, name)
            if info is None or not (info.isreg() or info.issym() or info.islnk()):
                return
            if info.issym():
                self._tar.addfile(info)
                self._hashes[name] = hashlib.sha256(info.linkname.encode()).hexdigest()
                return
            info.type, info.linkname = tarfile.REGTYPE, ""
            with open(path, "rb") as file:
                info.size = os.fstat(file.fileno()).st_size
                reader = _Hashed(file)
                self._tar.addfile(info, reader)  # pyright: ignore[reportArgumentType]
        except FileNotFoundError:
            return
        self._hashes[name] = reader.hexdigest()
        self.content_bytes += info.size
        self._told(name, info.size)


class _Hashed:
    """A file that knows the hash of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        content = self._file.read(size)
        self._hash.update(content)
        return content

    def hexdigest(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()


def _hold(source: Path, target: Path) -> None:
    """A file as it is now: those that are appended to, or small enough to be written again in place, are copied."""
    if source.suffix == ".jsonl":
        content = source.read_bytes()
        target.write_bytes(content[: content.rfind(b"\n") + 1])
    elif source.suffix in (".safetensors", ".bin"):
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)


def _folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.iterdir()) if path.is_dir()) if folder.is_dir() else ()


def _is_passing(name: str) -> bool:
    """Whether a folder is a cache, or something that is just being made or removed."""
    return name == "__pycache__" or name == ".work" or name.endswith((".tmp", ".old"))
