"""Lists of rollouts: filtered, sorted and paged in SQL, as the local UI shows them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.results.filters import EVERYTHING, Where
from eval_protocol.results.paths import parse

LARGEST_PAGE = 1000
SHOWN = (
    "rollout_id, invocation_id, experiment_id, run_id, row_id, name, model, created, updated, status, status_message, "
    "eval_status, eval_message, score, is_score_valid, metrics, prompt, answer, turns"
)
SORTABLE = {
    "createdAt": "created",
    "updatedAt": "updated",
    "name": "name",
    "model": "model",
    "rolloutStatus": "status",
    "status": "status",
    "evalStatus": "eval_status",
    "score": "score",
    "isScoreValid": "is_score_valid",
    "rolloutId": "rollout_id",
    "invocationId": "invocation_id",
    "experimentId": "experiment_id",
    "runId": "run_id",
    "rowId": "row_id",
    "turns": "turns",
}
"""What `sortField` may be called beside a path; a path may leave out its `$.` (`created_at`)."""


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    rows: list[dict[str, Any]]
    """RowSummary, as docs/reference/dashboard.md has it."""
    total: int
    """Rollouts in the store."""
    matching: int
    """Rollouts that the filter lets through."""
    page: int
    page_size: int


def page_of(
    connection: sqlite3.Connection,
    where: Where = EVERYTHING,
    *,
    sort_field: str = "created_at",
    descending: bool = True,
    page: int = 1,
    page_size: int = 25,
) -> Page:
    """One page, counted from 1. A page after the last one is the last one.

    Raises:
        UsageError: a page, a size or a field that cannot be.
    """
    if page < 1 or not 1 <= page_size <= LARGEST_PAGE:
        raise UsageError(f"page must be 1 or more, and pageSize 1 to {LARGEST_PAGE}; not {page} and {page_size}.")
    order, order_parameters = _order(sort_field)
    direction = "DESC" if descending else "ASC"
    total = count(connection)
    ordered = f"SELECT id FROM summaries WHERE {where.sql} ORDER BY {order} {direction}, id {direction}"
    parameters = (*where.parameters, *order_parameters)
    if where.is_costly:  # one look at every row; to count and then to fetch would be two
        every = [record[0] for record in connection.execute(ordered, parameters)]
        matching = len(every)
        page = min(page, max(1, -(-matching // page_size)))
        ids = every[(page - 1) * page_size : page * page_size]
    else:
        matching = total if where is EVERYTHING else count(connection, where)
        page = min(page, max(1, -(-matching // page_size)))
        limited = (*parameters, page_size, (page - 1) * page_size)
        ids = [record[0] for record in connection.execute(f"{ordered} LIMIT ? OFFSET ?", limited)]
    return Page(summaries(connection, ids), total, matching, page, page_size)


def count(connection: sqlite3.Connection, where: Where = EVERYTHING) -> int:
    """How many rollouts match."""
    sql = (
        f"SELECT COUNT(*) FROM summaries WHERE {where.sql}"
        if where is not EVERYTHING
        else "SELECT COUNT(*) FROM summaries"
    )
    return connection.execute(sql, where.parameters).fetchone()[0]


def summaries(connection: sqlite3.Connection, wanted: list[int]) -> list[dict[str, Any]]:
    """RowSummary of these ids, in this order."""
    marks = ", ".join("?" * len(wanted))
    cursor = connection.execute(f"SELECT id, {SHOWN} FROM summaries WHERE id IN ({marks})", wanted)
    names = [column[0] for column in cursor.description]
    found = {record[0]: row_summary(dict(zip(names, record, strict=True))) for record in cursor}
    return [found[each] for each in wanted if each in found]


def row_summary(record: dict[str, Any]) -> dict[str, Any]:
    """A record of SHOWN as the wire has it."""
    evaluated = record["eval_status"] is not None
    return {
        "rolloutId": record["rollout_id"],
        "invocationId": record["invocation_id"],
        "experimentId": record["experiment_id"],
        "runId": record["run_id"],
        "rowId": record["row_id"],
        "name": record["name"],
        "model": record["model"],
        "createdAt": iso(record["created"]),
        "updatedAt": iso(record["updated"]),
        "rolloutStatus": {"code": record["status"], "message": record["status_message"]},
        "evalStatus": {"code": record["eval_status"], "message": record["eval_message"] or ""} if evaluated else None,
        "score": record["score"],
        "isScoreValid": None if record["is_score_valid"] is None else bool(record["is_score_valid"]),
        "metrics": json.loads(record["metrics"]),
        "prompt": record["prompt"],
        "answer": record["answer"],
        "turns": record["turns"],
    }


def whole_row(connection: sqlite3.Connection, rollout_id: str) -> str | None:
    """A row as JSON text, as it was last written; None when there is none."""
    found = connection.execute("SELECT data FROM rollouts WHERE rollout_id = ?", (rollout_id,)).fetchone()
    return found[0] if found else None


def models(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Models by name: `model`, `rollouts`, `valid`, `meanScore` (of valid scores), `latest` (ISO 8601)."""
    found = connection.execute(
        "SELECT model, COUNT(*), SUM(is_score_valid = 1), AVG(CASE WHEN is_score_valid = 1 THEN score END), MAX(created) "
        "FROM summaries WHERE model IS NOT NULL GROUP BY model ORDER BY model"
    )
    return [
        {"model": model, "rollouts": rollouts, "valid": valid or 0, "meanScore": mean, "latest": iso(latest)}
        for model, rollouts, valid, mean, latest in found
    ]


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _order(field: str) -> tuple[str, tuple[str, ...]]:
    if field in SORTABLE:
        return f"summaries.{SORTABLE[field]}", ()
    return parse(field if field.startswith("$") else f"$.{field}").value()
