"""The fields that rows have: what a filter and a pivot can be made of."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.results.paths import COLUMNS, Kind, parse, spell

SAMPLE = 400
"""Rows that are looked at: the newest, and as many from all over the store."""
CONVERSATIONS = 20
"""Whole rows that are looked at, for the fields of messages."""
MOST_FIELDS = 500
MOST_VALUES = 20
LONGEST_VALUE = 100
"""Characters of an example; longer text is no example worth choosing."""
MOST_ITEMS = 4
"""Elements of a list that get paths of their own."""


def fields(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Leaves of a bounded choice of rows, by path: `path`, `type` (text, number, boolean, date), `values` (at most 20 examples)."""
    leaves: dict[str, list[Any]] = {path: [] for path in COLUMNS}
    for text in _chosen(connection):
        for path, value in _leaves(json.loads(text), ()):
            if path in leaves or len(leaves) < MOST_FIELDS:
                examples = leaves.setdefault(path, [])
                if len(examples) < MOST_VALUES and value not in examples and len(str(value)) <= LONGEST_VALUE:
                    examples.append(value)
    return [
        {
            "path": path,
            "type": _type(path, values),
            "values": sorted(values, key=lambda value: (str(type(value)), value)),
        }
        for path, values in sorted(leaves.items())
    ]


def _chosen(connection: sqlite3.Connection) -> Iterator[str]:
    newest = "SELECT id FROM summaries ORDER BY id DESC LIMIT ?"
    step = connection.execute("SELECT MAX(1, (MAX(id) - MIN(id)) / ?) FROM summaries", (SAMPLE,)).fetchone()[0]
    for (facts,) in connection.execute(f"SELECT facts FROM summaries WHERE id IN ({newest})", (SAMPLE,)):
        yield facts
    for (facts,) in connection.execute(_spread(connection, step or 1), (SAMPLE,)):
        yield facts
    for (data,) in connection.execute(
        f"SELECT data FROM rollouts JOIN summaries USING (rollout_id) WHERE id IN ({newest})", (CONVERSATIONS,)
    ):
        yield data


def _spread(connection: sqlite3.Connection, step: int) -> str:
    """Every step-th row: the first at or after each of so many places, found by its id."""
    return (
        f"WITH RECURSIVE place(at) AS (SELECT MIN(id) FROM summaries UNION ALL SELECT at + {int(step)} FROM place LIMIT ?) "
        "SELECT facts FROM place JOIN summaries ON summaries.id = (SELECT MIN(id) FROM summaries WHERE id >= at)"
    )


def _leaves(value: Any, parts: tuple[str | int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            if not ('"' in key or "\\" in key or "\0" in key):  # a key that no path can name
                yield from _leaves(inside, (*parts, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value[:MOST_ITEMS]):
            yield from _leaves(inside, (*parts, index))
    elif value is not None and parts:
        yield spell(parts), value


def _type(path: str, values: list[Any]) -> str:
    try:
        kind = parse(path).kind
    except UsageError:
        kind = Kind.ANY
    if kind is not Kind.ANY:
        return kind.value
    if values and all(isinstance(value, bool) for value in values):
        return "boolean"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    if values and all(isinstance(value, str) and _is_date(value) for value in values):
        return "date"
    return "text"


def _is_date(text: str) -> bool:
    if len(text) < len("2026-01-31") or text[4:5] != "-":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
