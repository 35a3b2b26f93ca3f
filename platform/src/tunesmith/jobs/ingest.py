"""From a run directory into the database: rollouts, events and metrics, by byte offset, each line exactly once.

Offset and rows are committed in one transaction, and a row's key is its place in the run, so reading a file twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db import rollouts as rollouts_table
from tunesmith.db.rollouts import METRICS_FILE, Line
from tunesmith.db.session import reading
from tunesmith.runs.advantages import batch_advantages
from tunesmith.runs.batch import BatchHeader
from tunesmith.runs.files import batch_path, read_json_lines

LINES_AT_ONCE = 500
"""Lines of one transaction: a burst never holds the write lock for long."""
ROLLOUTS_FILE, EVENTS_FILE, AUDIT_FILE = "rollouts.jsonl", "events.jsonl", "audit.jsonl"
_Add = Callable[[Session, str, str, Sequence[Line]], None]


class Ingest:
    """Follows the append-only files of one run directory."""

    def __init__(self, sessions: sessionmaker[Session], job: str, run_dir: Path) -> None:
        self._sessions = sessions
        self._job = job
        self._run_dir = run_dir
        self._read: dict[Path, int] = {}
        """Bytes of each file that are in the database, as far as this process knows."""
        self._tokens: tuple[int, int] | None = None

    def catch_up(self) -> int:
        """Take in everything that was appended since the last call; returns the number of lines."""
        taken = self._follow(ROLLOUTS_FILE, self._add_rollouts)
        taken += self._follow(EVENTS_FILE, self._add_events)
        taken += self._follow(AUDIT_FILE, rollouts_table.add_events)
        return taken + self._follow(METRICS_FILE, self._add_metrics)

    def tokens(self) -> tuple[int, int]:
        """(sampled, trained) tokens of what was taken in, by this process or an earlier one."""
        if self._tokens is None:
            with reading(self._sessions) as session:
                self._tokens = rollouts_table.token_totals(session, self._job)
        return self._tokens

    def _add_rollouts(self, session: Session, job: str, file: str, lines: Sequence[Line]) -> None:
        rollouts_table.add_rollouts(session, job, file, lines)
        self._count(sampled=sum(record.get("completion_tokens") or 0 for _, record in lines))

    def _add_metrics(self, session: Session, job: str, file: str, lines: Sequence[Line]) -> None:
        rollouts_table.add_events(session, job, file, lines)
        self._count(trained=sum(record.get("trained_tokens") or 0 for _, record in lines))

    def _add_events(self, session: Session, job: str, file: str, lines: Sequence[Line]) -> None:
        rollouts_table.add_events(session, job, file, lines)
        for _, event in lines:
            if event.get("kind") == "chunk" and event.get("sealed"):
                rollouts_table.set_advantages(session, job, self._advantages(event["step"]))

    def _count(self, sampled: int = 0, trained: int = 0) -> None:
        if self._tokens is not None:
            self._tokens = self._tokens[0] + sampled, self._tokens[1] + trained

    def _advantages(self, step: int) -> dict[str, float]:
        """Advantage of each rollout of a sealed batch, as the learner reckons it; empty where the batch is gone."""
        path = batch_path(self._run_dir, step)
        if not path.exists():
            return {}
        rollouts = BatchHeader.read(path).rollouts
        advantages = batch_advantages([each.score for each in rollouts], [each.group for each in rollouts])
        return {each.rollout_id: advantage for each, advantage in zip(rollouts, advantages, strict=True)}

    def _follow(self, name: str, add: _Add) -> int:
        path, taken = self._run_dir / name, 0
        while path.exists() and path.stat().st_size > self._read.get(path, 0):
            size = path.stat().st_size
            if name == EVENTS_FILE:  # an event tells of rollouts that were written before it
                taken += self._follow(ROLLOUTS_FILE, self._add_rollouts)
            with self._sessions.begin() as session:
                offset = rollouts_table.offset_of(session, str(path))
                lines = list(_next_lines(path, offset, size))
                if lines:
                    offset = lines[-1][0]
                    add(session, self._job, name, lines)
                    rollouts_table.set_offset(session, str(path), offset)
            self._read[path] = offset
            taken += len(lines)
            if len(lines) < LINES_AT_ONCE:
                break
        return taken


def _next_lines(path: Path, offset: int, end: int) -> Iterator[Line]:
    for number, line in enumerate(read_json_lines(path, offset)):
        if number == LINES_AT_ONCE or line[0] > end:
            return
        yield line
