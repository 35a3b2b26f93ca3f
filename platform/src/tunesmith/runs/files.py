"""Files that two processes share: atomic writes, append-only logs with a torn tail cut, and one lock per writer."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunesmith.errors import FailedPrecondition

LAYOUT = {"batches": "step-{:06d}.safetensors", "adapters": "v{:06d}", "checkpoints": "step-{:06d}"}

BUDGETS_FILE = "budgets.jsonl"
"""From which step on the learner computes with fewer tokens at a time, because memory ran out; the learner writes it."""


def batch_path(run_dir: Path, step: int) -> Path:
    """Where sealed batch `step` lies."""
    return run_dir / "batches" / LAYOUT["batches"].format(step)


def adapter_path(run_dir: Path, version: int) -> Path:
    """Where the adapter of policy version `version` lies."""
    return run_dir / "adapters" / LAYOUT["adapters"].format(version)


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after optimizer step number `step` lies."""
    return run_dir / "checkpoints" / LAYOUT["checkpoints"].format(step)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file: readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)


class JsonLines:
    """Append-only JSON lines with one writer. Opening it cuts a torn last line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: IO[bytes] = open(path, "ab+")  # noqa: SIM115 - lives as long as the object
        self._cut_torn_line()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and hand it to the kernel: it survives kill -9 of this process."""
        self._file.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_torn_line(self) -> None:
        self._file.seek(0)
        content_end = 0
        for line in self._file:
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
