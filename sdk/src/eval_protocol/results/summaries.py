"""The narrow twin of a stored rollout: what lists, filters and pivots read, so that they never touch a whole conversation.

A summary is derived from the row's JSON and can be made again from it at any time. It holds the columns that are sorted and filtered by
most, the first words of prompt and answer, and `facts`: the row without its heavy parts, where every other path is looked up.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from eval_protocol.models.status import NOT_ERRORS

NOT_FAILED = ", ".join(str(int(code)) for code in sorted(NOT_ERRORS))
"""Statuses of rollouts whose scores count, as an SQL list."""
SNIPPET = 300
"""Characters of prompt and answer in a list."""
HEAVY = (
    ("messages",),
    ("tools",),
    ("execution_metadata", "raw_output"),
    ("evaluation_result", "step_outputs"),
    ("evaluation_result", "trajectory_info"),
)
"""Paths that stay out of the facts."""
COLUMNS = (
    "rollout_id", "invocation_id", "experiment_id", "run_id", "row_id", "name", "model",
    "status", "status_message", "eval_status", "eval_message", "score", "is_score_valid", "agg_score",
    "created", "updated", "host", "pid", "process_started", "turns", "metrics", "prompt", "answer", "facts",
)  # fmt: skip
PUT = f"INSERT OR REPLACE INTO summaries ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
"""A replaced summary gets a new, higher id: what changed since an id is a range of ids."""
MISSING = (
    "SELECT data, created, updated, host, pid, process_started FROM rollouts "
    "WHERE rollout_id NOT IN (SELECT rollout_id FROM summaries) ORDER BY updated LIMIT 500"
)


def summary_of(data: str, created: float, updated: float, host: str, pid: int, process_started: str) -> tuple[Any, ...]:
    """The values of COLUMNS for a row as JSON text.

    Args:
        created, updated: unix seconds.
        host, pid, process_started: the process that wrote it.
    """
    row = json.loads(data, parse_constant=lambda name: None)  # NaN and its like are no JSON to SQLite
    ids, given = _dict(row.get("execution_metadata")), _dict(row.get("input_metadata"))
    status, evaluation = _dict(row.get("rollout_status")), _dict(row.get("eval_metadata"))
    result, eval_status = _dict(row.get("evaluation_result")), _dict(evaluation.get("status"))
    messages = [message for message in row.get("messages") or [] if isinstance(message, dict)]
    metrics = {name: _number(_dict(metric).get("score")) for name, metric in _dict(result.get("metrics")).items()}
    return (
        ids.get("rollout_id"),
        ids.get("invocation_id"),
        ids.get("experiment_id"),
        ids.get("run_id"),
        given.get("row_id"),
        evaluation.get("name"),
        _text(_dict(given.get("completion_params")).get("model")),
        int(status.get("code", 2)),
        status.get("message") or "",
        eval_status.get("code"),
        eval_status.get("message"),
        _number(result.get("score")),
        int(bool(result.get("is_score_valid", True))) if result else None,
        _number(result.get("agg_score")),
        created,
        updated,
        host,
        pid,
        process_started,
        sum(message.get("role") == "assistant" for message in messages),
        json.dumps(metrics, ensure_ascii=False),
        _snippet(_prompt(messages)),
        _snippet(_answer(messages)),
        json.dumps(_facts(row), ensure_ascii=False, separators=(",", ":")),
    )


def add_missing(connection: sqlite3.Connection) -> int:
    """Summarise the rollouts that have no summary: all of an older store, those of a writer that knew none. Returns how many."""
    added = 0
    while found := connection.execute(MISSING).fetchall():
        connection.executemany(PUT, (summary_of(*record) for record in found))
        added += len(found)
    return added


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    facts = dict(row)
    for path in HEAVY:
        if len(path) == 1:
            facts.pop(path[0], None)
        elif isinstance(facts.get(path[0]), dict):
            facts[path[0]] = {key: value for key, value in facts[path[0]].items() if key != path[1]}
    return facts


def _prompt(messages: list[dict[str, Any]]) -> str:
    first = next((message for message in messages if message.get("role") == "user"), None)
    return _words(first or next(iter(messages), {}))


def _answer(messages: list[dict[str, Any]]) -> str:
    last = next((message for message in reversed(messages) if message.get("role") == "assistant"), {})
    calls = [_text(_dict(_dict(call).get("function")).get("name")) for call in last.get("tool_calls") or []]
    return _words(last) or " ".join(f"→ {name}()" for name in calls if name)


def _words(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return " ".join(str(part.get("text") or f"[{part.get('type', 'part')}]") for part in parts)
    return content if isinstance(content, str) else ""


def _snippet(text: str) -> str:
    line = " ".join(text[: SNIPPET * 8].split())  # the beginning only: a prompt may hold a book
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
