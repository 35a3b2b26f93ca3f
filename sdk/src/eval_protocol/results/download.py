"""Exports: the rollouts that a filter lets through, as JSONL (whole rows) or CSV (a line of figures each), piece by piece."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.results.filters import EVERYTHING, Where
from eval_protocol.results.listing import iso

AT_ONCE = 200
"""Rows of one piece."""
LEADING = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so is a formula to a spreadsheet; an apostrophe before it keeps it text."""
CSV_COLUMNS = (
    "created_at", "updated_at", "name", "model", "rollout_status", "rollout_message", "eval_status", "score", "is_score_valid",
    "reason", "prompt", "answer", "turns", "invocation_id", "experiment_id", "run_id", "row_id", "rollout_id",
)  # fmt: skip
_SELECT = (
    "SELECT created, updated, name, model, status, status_message, eval_status, score, is_score_valid, "
    "json_extract(facts, '$.evaluation_result.reason'), prompt, answer, turns, invocation_id, experiment_id, run_id, row_id, rollout_id, "
    "metrics FROM summaries"
)


def export(connection: sqlite3.Connection, form: str, where: Where = EVERYTHING) -> Iterator[str]:
    """Pieces of the file, newest rollout first.

    Raises:
        UsageError: `form` is neither jsonl nor csv; at the call, before the first piece.
    """
    if form not in ("jsonl", "csv"):
        raise UsageError(f"format must be jsonl or csv, not {form!r}.")
    return _jsonl(connection, where) if form == "jsonl" else _csv(connection, where)


def _jsonl(connection: sqlite3.Connection, where: Where) -> Iterator[str]:
    for ids in _pieces(_ids(connection, where)):
        marks = ", ".join("?" * len(ids))
        found = dict(
            connection.execute(
                f"SELECT id, data FROM summaries JOIN rollouts USING (rollout_id) WHERE id IN ({marks})", ids
            ).fetchall()
        )
        yield "".join(f"{found[each]}\n" for each in ids if each in found)


def _csv(connection: sqlite3.Connection, where: Where) -> Iterator[str]:
    metrics = sorted(
        name
        for (name,) in connection.execute(
            f"SELECT DISTINCT key FROM summaries, json_each(summaries.metrics) WHERE {where.sql}", where.parameters
        )
    )
    yield _lines([[*CSV_COLUMNS, *(f"metrics.{name}" for name in metrics)]])
    for ids in _pieces(_ids(connection, where)):
        marks = ", ".join("?" * len(ids))
        cursor = connection.execute(f"{_SELECT} WHERE id IN ({marks}) ORDER BY created DESC, id DESC", ids)
        yield _lines([_record(record, metrics) for record in cursor])


def _record(record: tuple[Any, ...], metrics: list[str]) -> list[Any]:
    created, updated, *others, text = record
    scores = json.loads(text)
    return [iso(created), iso(updated), *others, *(scores.get(name) for name in metrics)]


def _lines(records: list[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([_safe(value) for value in record] for record in records)
    return buffer.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(LEADING) else value


def _ids(connection: sqlite3.Connection, where: Where) -> list[int]:
    """All at once: eight bytes each, and a list that no later write disturbs."""
    sql = f"SELECT id FROM summaries WHERE {where.sql} ORDER BY created DESC, id DESC"
    return [record[0] for record in connection.execute(sql, where.parameters)]


def _pieces(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
