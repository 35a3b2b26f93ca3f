"""From a run directory into the database: rollouts, events and metrics, by byte offset, each line exactly once.

Offset and rows are committed in one transaction, and a row's key is its place in the run, so reading a file twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db import rollouts as rollouts_table
from tunesmith.runs.files import read_json_lines

LINES_AT_ONCE = 500
"""Lines of one transaction: a burst never holds the write lock for long."""
EVENT_FILES = ("events.jsonl", "metrics.jsonl")


class Ingest:
    """Follows the append-only files of one run directory."""

    def __init__(self, sessions: sessionmaker[Session], job: str, run_dir: Path) -> None:
        self._sessions = sessions
        self._job = job
        self._run_dir = run_dir
        self._read: dict[Path, int] = {}
        """Bytes of each file that are in the database, as far as this process knows."""

    def catch_up(self) -> int:
        """Take in everything that was appended since the last call; returns the number of lines."""
        taken = self._follow("rollouts.jsonl", rollouts_table.add_rollouts)
        for name in EVENT_FILES:
            taken += self._follow(name, rollouts_table.add_events)
        return taken

    def _follow(self, name: str, add: Any) -> int:
        path, taken = self._run_dir / name, 0
        while path.exists() and path.stat().st_size > self._read.get(path, 0):
            with self._sessions.begin() as session:
                offset = rollouts_table.offset_of(session, str(path))
                lines = list(_next_lines(path, offset))
                if lines:
                    offset = lines[-1][0]
                    add(session, self._job, name, lines)
                    rollouts_table.set_offset(session, str(path), offset)
            self._read[path] = offset
            taken += len(lines)
            if len(lines) < LINES_AT_ONCE:
                break
        return taken


def _next_lines(path: Path, offset: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_json_lines(path, offset)):
        if number == LINES_AT_ONCE:
            return
        yield line
