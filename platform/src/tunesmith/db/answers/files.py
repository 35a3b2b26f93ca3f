"""The bytes of upstreams' answers, in append-only files beside `completions.db`; a row names file, offset and length.

A database would write each page of an answer twice and sum it up on the way: five times the cost of the plain append, and most of what
a passed-through call costs at all. Bytes are in the file before the row that names them is committed, so what kill -9 leaves is whole.
Like the database's commits they do not outlive a loss of power. A file has one writer, from start to end: each process makes its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

FILE_BYTES = 256 * 2**20
"""A file that has reached this size is followed by a new one."""
_MOST_PARTS = 512
"""Pieces of one system call; the kernel takes at most 1,024 (IOV_MAX)."""


class AnswerLost(Exception):
    """The bytes of an answer are not where its row says."""


@dataclass(frozen=True)
class RawAnswer:
    """An answer to be kept."""

    dialect: str
    streamed: bool
    parts: Sequence[bytes]
    """The bytes as they came."""
    request_bytes: int
    """Size of the call's body; its tokens are estimated from it where the upstream does not count."""


class KeptAnswer(msgspec.Struct, frozen=True):
    """Where an answer is kept, and how it is to be read: the column `answer` of a completion, as JSON."""

    file: str
    offset: int
    length: int
    dialect: str
    streamed: bool
    request_bytes: int


class AnswerFiles:
    """The folder of the files. `take` and `write` are for one thread (the writer's), `read` for any."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first answer."""
        self._folder = folder
        self._file: int | None = None
        self._name = ""
        self._end = 0
        self._taken: list[bytes] = []

    def take(self, raw: RawAnswer | None) -> str | None:
        """An answer for the next `write`; returns the column's text. None, a completion without one, stays None. Raises OSError."""
        if raw is None:
            return None
        if self._file is None or (self._end >= FILE_BYTES and not self._taken):
            self._open_next()
        offset, length = self._end, sum(map(len, raw.parts))
        self._taken += raw.parts
        self._end += length
        kept = KeptAnswer(self._name, offset, length, raw.dialect, raw.streamed, raw.request_bytes)
        return msgspec.json.encode(kept).decode()

    def write(self) -> None:
        """Write what was taken; on return the kernel has it. Raises OSError."""
        taken, self._taken = self._taken, []
        try:
            for start in range(0, len(taken), _MOST_PARTS):
                self._write(taken[start : start + _MOST_PARTS])
        except OSError:
            self.close()  # where it ends is not known any more
            raise

    def read(self, kept: KeptAnswer) -> bytes:
        """The bytes of an answer. Raises AnswerLost."""
        try:
            with open(self._folder / kept.file, "rb") as file:
                file.seek(kept.offset)
                raw = file.read(kept.length)
        except OSError as error:
            raise AnswerLost(f"{self._folder / kept.file} cannot be read: {error.strerror}") from error
        if len(raw) < kept.length:
            raise AnswerLost(f"{self._folder / kept.file} ends before byte {kept.offset + kept.length}")
        return raw

    def close(self) -> None:
        """Close the file that is written to."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._taken = None, []

    def _open_next(self) -> None:
        self.close()
        self._folder.mkdir(exist_ok=True)
        number = max((int(path.stem) for path in self._folder.glob("[0-9]*.bin")), default=-1)
        while self._file is None:
            number += 1
            self._name = f"{number:06d}.bin"
            try:
                self._file = os.open(self._folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue  # another process took the number
        self._end = 0

    def _write(self, parts: Sequence[bytes]) -> None:
        assert self._file is not None
        left = sum(map(len, parts))
        written = os.writev(self._file, parts)
        if written < left:  # the disk is nearly full, or the whole is beyond what one call takes
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(self._file, rest) :]
