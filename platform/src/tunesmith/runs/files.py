"""Files that two processes share: atomic writes, append-only logs with a torn tail cut, and one lock per writer."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from tunesmith.errors import FailedPrecondition

LAYOUT = {"batches": "step-{:06d}.safetensors", "adapters": "v{:06d}", "checkpoints": "step-{:06d}"}

BUDGETS_FILE = "budgets.jsonl"
"""From which step on the learner computes with fewer tokens at a time, because memory ran out; the learner writes it."""


SETTLED_NANOSECONDS = 100_000_000
"""A file that is younger than this may be replaced by one with the same mark."""


def batch_path(run_dir: Path, step: int) -> Path:
    """Where sealed batch `step` lies."""
    return run_dir / "batches" / LAYOUT["batches"].format(step)


def adapter_path(run_dir: Path, version: int) -> Path:
    """Where the adapter of policy version `version` lies."""
    return run_dir / "adapters" / LAYOUT["adapters"].format(version)


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after optimizer step number `step` lies."""
    return run_dir / "checkpoints" / LAYOUT["checkpoints"].format(step)


def file_mark(path: Path | str) -> tuple[int, int, int] | None:
    """By what a file is seen to have been appended to or replaced (inode, bytes, nanoseconds); None when it is not there."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file: readers see the old one or the new one, never a part. A write that fails leaves the old one and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk it would take the room that others need
        raise


class JsonLines:
    """Append-only JSON lines with one writer. Opening it cuts a torn last line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Unbuffered: what a full disk refuses must not lie in a buffer and come after what is written next.
        self._file: FileIO = open(path, "ab+", buffering=0)  # noqa: SIM115 - lives as long as the object
        self._cut_torn_line()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and hand it to the kernel: it survives kill -9 of this process.

        Raises OSError when it cannot be written whole; then nothing of it stays.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        written = 0
        try:
            while written < len(line):  # a nearly full disk takes a part first, and refuses the rest
                written += self._file.write(line[written:])
        except OSError:
            self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_torn_line(self) -> None:
        content_end = 0
        with open(self.path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                content_end += len(line)
        self._file.truncate(content_end)
        self._file.seek(0, os.SEEK_END)


def read_json_lines(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(byte offset after the line, record)` for each whole line from `offset` on; a torn last line is left alone."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, json.loads(line)


def lock(path: Path) -> IO[str]:
    """Take an exclusive lock that dies with this process; the file names its holder.

    Raises FailedPrecondition when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115 - the lock lives as long as the file object
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FailedPrecondition(f"{path} is held by process {holder}; stop that one first.") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
