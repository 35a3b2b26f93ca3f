"""The rows of a run, read from disk one by one: of a large dataset only where each row begins is kept in memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.errors import InvalidArgument


class Rows:
    """Adapted rows of a JSONL file, by index; 8 bytes of memory a row. The file must not change while it is used."""

    def __init__(self, path: Path) -> None:
        """Read the file once, checking every line.

        Raises InvalidArgument with the line number of a broken one, or when there is no row.
        """
        self._path = path
        self._starts = array("Q")
        for number, start, line in _lines(path):
            try:
                json.loads(line)
            except ValueError as error:
                raise InvalidArgument(f"{path}: invalid JSON on line {number}: {error}") from error
            self._starts.append(start)
        if not self._starts:
            raise InvalidArgument(f"{path} holds no rows.")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with open(self._path, "rb") as file:
            file.seek(self._starts[index])
            return json.loads(file.readline())

    def first(self, count: int) -> dict[int, dict[str, Any]]:
        """The first `count` rows, or all where there are fewer, by index."""
        return {index: self[index] for index in range(min(count, len(self)))}


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and content of each line that is not blank."""
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, start, line
            start += len(line)
