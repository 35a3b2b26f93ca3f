"""Writing the store: one upsert per change of a row's state, batched in a thread of its own, off the event loop."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from eval_protocol.errors import ResultsError, UsageError
from eval_protocol.models import EvaluationRow
from eval_protocol.results.logs import LogLine
from eval_protocol.results.schema import connect, process_started
from eval_protocol.results.summaries import PUT as PUT_SUMMARY
from eval_protocol.results.summaries import summary_of
from eval_protocol.results.watch import Caller

COLUMNS = (
    "rollout_id, invocation_id, experiment_id, run_id, row_id, name, model, status, score, is_score_valid, created, updated, "
    "host, pid, process_started, data"
)
KEPT = {"rollout_id", "created"}
UPSERT = (
    f"INSERT INTO rollouts ({COLUMNS}) VALUES ({', '.join('?' * 16)}) ON CONFLICT (rollout_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.replace(" ", "").split(",") if name not in KEPT)
)
DELETES = ("DELETE FROM rollouts WHERE rollout_id = ?", "DELETE FROM summaries WHERE rollout_id = ?")
MOVE_LINES = "UPDATE logs SET rollout_id = ? WHERE rollout_id = ?"
PUT_LINE = "INSERT INTO logs (rollout_id, time, level, number, logger, message, status) VALUES (?, ?, ?, ?, ?, ?, ?)"
LARGEST_BATCH = 500
"""Rows, and lines, of one transaction."""


class _Batch:
    """What goes into one transaction: the last state of each row, and the lines."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.replaced: dict[str, str] = {}
        """Rollout id of an earlier try -> of the one that takes its place."""
        self.lines: list[LogLine] = []

    def add(self, record: tuple[Any, ...], earlier: str | None) -> None:
        self.rows[record[0]] = record
        if earlier is not None:
            self.rows.pop(earlier, None)
            self.replaced[earlier] = record[0]

    def __len__(self) -> int:
        return len(self.rows) + len(self.lines)


class ResultsStore:
    """The local results store, for writing. A context manager: leaving it commits all that was logged.

    Args:
        path: the SQLite file; made, with its folder, when it is not there.

    Raises:
        ResultsError: it cannot be opened; and on `flush` or leaving: it could not be written (disk full, ...).
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self._connection = connect(self.path)
        self._queue: queue.SimpleQueue[tuple[tuple[Any, ...], str | None] | LogLine | threading.Event | None] = (
            queue.SimpleQueue()
        )
        self._caller = Caller(self.path)
        self._error: Exception | None = None
        self._process = (os.uname().nodename, os.getpid(), process_started(os.getpid()))
        self._thread = threading.Thread(target=self._write_all, name="eval-protocol-results", daemon=True)
        self._thread.start()

    def log(self, row: EvaluationRow, *, replaces: str | None = None) -> None:
        """Keep the row as it is now. Returns at once.

        Args:
            replaces: rollout id of an earlier try of the same rollout; it leaves the store in the same transaction.

        Raises:
            UsageError: the row has no rollout id.
        """
        self._queue.put((self._record(row), replaces))

    def log_line(self, line: LogLine) -> None:
        """Keep a line that was logged while a rollout ran. Returns at once."""
        self._queue.put(line)

    def flush(self) -> None:
        """Wait until all that was logged is committed. Raises ResultsError when it could not be."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        self._raise()

    def close(self) -> None:
        """Commit and end the thread. Raises ResultsError when something could not be written."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
            self._connection.close()
            self._caller.close()
        self._raise()

    def __enter__(self) -> ResultsStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _raise(self) -> None:
        if self._error is not None:
            raise ResultsError(f"The results store {self.path} could not be written: {self._error}.") from self._error

    def _record(self, row: EvaluationRow) -> tuple[Any, ...]:
        ids, result = row.execution_metadata, row.evaluation_result
        if not ids.rollout_id:
            raise UsageError("A row without execution_metadata.rollout_id cannot be logged.")
        return (
            ids.rollout_id,
            ids.invocation_id,
            ids.experiment_id,
            ids.run_id,
            row.input_metadata.row_id,
            row.eval_metadata.name if row.eval_metadata else None,
            row.input_metadata.completion_params.get("model"),
            int(row.rollout_status.code),
            float(result.score) if result else None,
            int(result.is_score_valid) if result else None,
            row.created_at.timestamp(),
            time.time(),
            *self._process,
            row.model_dump_json(exclude_none=True, by_alias=True),
        )

    def _write_all(self) -> None:
        """The thread: everything that waits goes into one transaction, the last state of each row only."""
        while True:
            item = self._queue.get()
            batch = _Batch()
            waiting: list[threading.Event] = []
            ended = False
            while True:
                if item is None:
                    ended = True
                elif isinstance(item, threading.Event):
                    waiting.append(item)
                elif isinstance(item, LogLine):
                    batch.lines.append(item)
                else:
                    batch.add(*item)
                if ended or waiting or len(batch) >= LARGEST_BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._write(batch)
            for event in waiting:
                event.set()
            if ended:
                return

    def _write(self, batch: _Batch) -> None:
        if not batch:
            return
        rows = batch.rows.values()
        try:
            summaries = [summary_of(record[-1], *record[10:15]) for record in rows]
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(UPSERT, rows)
            self._connection.executemany(PUT_SUMMARY, summaries)
            self._connection.executemany(PUT_LINE, map(LogLine.record, batch.lines))
            for earlier, later in batch.replaced.items():
                for statement in DELETES:
                    self._connection.execute(statement, (earlier,))
                self._connection.execute(MOVE_LINES, (later, earlier))
            self._connection.execute("COMMIT")
        except (
            sqlite3.Error,
            ValueError,
            TypeError,
            RecursionError,
        ) as error:  # the thread must live: others wait for it
            self._error = error
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return
        self._caller.call()
