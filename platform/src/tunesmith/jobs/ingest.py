"""From a run directory into the database: rollouts, events and metrics, by byte offset, each line exactly once.

Offset and rows are committed in one transaction, and a row's key is its place in the run, so reading a file twice does no harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
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
        self._read: dict[str, int] = {}
        """Bytes of each file that are in the database, as far as this process knows."""
        self._tokens: tuple[int, int] | None = None
        self._add: dict[str, _Add] = {
            ROLLOUTS_FILE: self._add_rollouts,
            EVENTS_FILE: self._add_events,
            AUDIT_FILE: rollouts_table.add_events,
            METRICS_FILE: self._add_metrics,
        }

    def catch_up(self) -> int:
        """Take in everything that was appended since the last call; returns the number of lines.

        Sizes are read back to front: what an event tells of (its rollouts) lies in the file by then, and is taken in before it.
        """
        sizes = {name: size for name in reversed(self._add) if (size := self._grown(name)) is not None}
        taken = 0
        while sizes:
            room, offsets = LINES_AT_ONCE, {}
            try:
                with self._sessions.begin() as session:
                    for name in [name for name in self._add if name in sizes]:
                        lines, offsets[name] = self._take(session, name, sizes[name], room)
                        room -= lines
                        if room == 0:
                            break  # there may be more of this file, which goes before the next
                        del sizes[name]
            except BaseException:
                self._tokens = None  # what was counted is not in the database
                raise
            self._read |= offsets
            taken += LINES_AT_ONCE - room
        return taken

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

    def _grown(self, name: str) -> int | None:
        """Bytes of a file that has grown; None for one that has not."""
        try:
            size = os.stat(self._run_dir / name).st_size
        except FileNotFoundError:
            return None
        return size if size > self._read.get(name, 0) else None

    def _take(self, session: Session, name: str, end: int, most: int) -> tuple[int, int]:
        """Add the lines up to byte `end` that are not there yet, at most so many; returns how many, and up to which byte."""
        path = self._run_dir / name
        offset = rollouts_table.offset_of(session, str(path))
        lines = list(_next_lines(path, offset, end, most))
        if lines:
            offset = lines[-1][0]
            self._add[name](session, self._job, name, lines)
            rollouts_table.set_offset(session, str(path), offset)
        return len(lines), offset


def _next_lines(path: Path, offset: int, end: int, most: int) -> Iterator[Line]:
    for line in islice(read_json_lines(path, offset), most):
        if line[0] > end:
            return
        yield line
