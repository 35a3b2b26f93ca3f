"""Invocations and their rows: plain functions over SQL. Rows whose process died while they ran are shown as aborted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eval_protocol.models import EvaluationRow, Status
from eval_protocol.models.status import NOT_ERRORS, Code
from eval_protocol.results.schema import connect, is_alive

LOST = "The process that ran this rollout ended before it was done."


@dataclass(frozen=True)
class Invocation:
    """One run of evaluations, summed up."""

    invocation_id: str
    names: tuple[str, ...]
    models: tuple[str, ...]
    created: float
    """Unix seconds of its first row."""
    rollouts: int
    running: int
    aborted: int
    """Rows that were stopped, or ran when their process died."""
    failed: int
    valid: int
    mean_score: float | None
    """Over valid scores."""


@dataclass(frozen=True)
class StoredRow:
    """One rollout as it was last written."""

    row: EvaluationRow
    created: float
    updated: float


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def list_invocations(path: Path, *, limit: int = 100, offset: int = 0) -> list[Invocation]:
    """The latest invocations first. Reads the index only."""
    with _reading(path) as connection:
        return invocations(connection, limit=limit, offset=offset)


def invocations(connection: sqlite3.Connection, *, limit: int = 100, offset: int = 0) -> list[Invocation]:
    """The same over an open connection."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    found = cursor.execute(
        "SELECT invocation_id, MIN(created) AS created FROM summaries WHERE invocation_id IS NOT NULL "
        "GROUP BY invocation_id ORDER BY created DESC LIMIT ? OFFSET ?",
        (limit, offset),
    ).fetchall()
    return [_invocation(cursor, row["invocation_id"], row["created"]) for row in found]


def _invocation(cursor: sqlite3.Cursor, invocation_id: str, created: float) -> Invocation:
    groups = cursor.execute(
        "SELECT name, model, status, COUNT(*) AS count, SUM(is_score_valid = 1) AS valid, "
        "SUM(CASE WHEN is_score_valid = 1 THEN score END) AS total "
        "FROM summaries WHERE invocation_id = ? GROUP BY name, model, status",
        (invocation_id,),
    ).fetchall()
    running = cursor.execute(
        "SELECT host, pid, process_started, COUNT(*) AS count FROM summaries WHERE invocation_id = ? AND status = 101 "
        "GROUP BY host, pid, process_started",
        (invocation_id,),
    ).fetchall()
    lost = sum(g["count"] for g in running if not is_alive(g["host"], g["pid"], g["process_started"]))
    aborted = sum(g["count"] for g in groups if g["status"] == Code.ABORTED)
    valid = sum(group["valid"] or 0 for group in groups)
    fine = {*NOT_ERRORS, Code.ABORTED}
    return Invocation(
        invocation_id=invocation_id,
        names=tuple(sorted({group["name"] for group in groups if group["name"]})),
        models=tuple(sorted({group["model"] for group in groups if group["model"]})),
        created=created,
        rollouts=sum(group["count"] for group in groups),
        running=sum(group["count"] for group in running) - lost,
        aborted=aborted + lost,
        failed=sum(group["count"] for group in groups if group["status"] not in fine),
        valid=valid,
        mean_score=sum(group["total"] or 0.0 for group in groups) / valid if valid else None,
    )


def rows_of(
    path: Path, invocation_id: str, *, experiment_id: str | None = None, limit: int = -1, offset: int = 0
) -> list[StoredRow]:
    """The rows of an invocation, or of one of its experiments, in the order in which they were made."""
    condition, values = "s.invocation_id = ?", [invocation_id]
    if experiment_id is not None:
        condition, values = condition + " AND s.experiment_id = ?", [*values, experiment_id]
    with _reading(path) as connection:
        found = connection.execute(
            f"SELECT data, s.created, s.updated, s.host, s.pid, s.process_started FROM summaries s JOIN rollouts r USING (rollout_id) "
            f"WHERE {condition} ORDER BY s.created, r.rowid LIMIT ? OFFSET ?",
            (*values, limit, offset),
        ).fetchall()
    return [_stored(record) for record in found]


def _stored(record: sqlite3.Row) -> StoredRow:
    row = EvaluationRow.model_validate_json(record["data"])
    if row.rollout_status.is_running() and not is_alive(record["host"], record["pid"], record["process_started"]):
        row.rollout_status = Status.aborted(LOST)
    return StoredRow(row, record["created"], record["updated"])
