"""The pivot: rollouts grouped by leaves, one number for each cell, with the interval it deserves.

SQL groups; where an interval is wanted it groups by dataset row, too, because the runs of one row are one cluster: they say little
about other rows.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.evaluation.intervals import Z, bounded, interval, t_quantile, wilson
from eval_protocol.results.filters import EVERYTHING, Where
from eval_protocol.results.paths import Path, parse
from eval_protocol.results.summaries import NOT_FAILED

MOST_ROWS, MOST_COLUMNS = 2000, 200
"""Keys that are shown; more is no table for a person."""
MOST_FIELDS = 5
"""Of rows, and of columns."""
AGG_SCORE = "$.evaluation_result.agg_score"
Key = tuple[Any, ...]


class Aggregator(StrEnum):
    """How the values of a cell become one."""

    COUNT = "count"
    """Rollouts, whatever their value."""
    SUM = "sum"
    """Of the values."""
    AVG = "avg"
    """Mean, with its 95 % interval."""
    MIN = "min"
    """Least value."""
    MAX = "max"
    """Largest value."""
    STDERR = "stderr"
    """Standard error of the mean, clustered by dataset row."""
    PASS_AT_K = "pass@k"
    """Chance that one of k rollouts of a row reaches the threshold, averaged over rows, with its 95 % interval."""


@dataclass
class _Cell:
    """What SQL found in one cell."""

    rollouts: int = 0
    clusters: list[tuple[int, float, int]] = field(default_factory=list)
    """Values, their sum, how many reach the threshold: of each dataset row."""
    low: float = math.inf
    high: float = -math.inf
    binary: bool = True

    def add(self, rollouts: int, values: int, total: float, low: float, high: float, odd: int, reached: int) -> None:
        self.rollouts += rollouts
        if values:
            self.clusters.append((values, total, reached))
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.binary = self.binary and not odd

    @property
    def values(self) -> int:
        return sum(n for n, _, _ in self.clusters)


def pivot(
    connection: sqlite3.Connection,
    where: Where = EVERYTHING,
    *,
    rows: Sequence[str],
    columns: Sequence[str] = (),
    value: str = AGG_SCORE,
    aggregator: str = "avg",
    k: int = 1,
    threshold: float = 1.0,
) -> dict[str, Any]:
    """The table of docs/reference/dashboard.md: `rows`, `columns`, `cells`, `rowTotals`, `columnTotals`, `grandTotal`.

    Scores count only where they are valid and their rollout did not fail.

    Args:
        rows, columns: paths of the leaves to group by.
        value: path of the number; rollouts without one count for nothing but `count`.
        k, threshold: of `pass@k`.

    Raises:
        UsageError: a field, an aggregator or a number that cannot be; or more keys than a table can show.
    """
    if aggregator not in list(Aggregator):
        raise UsageError(f"{aggregator!r} is no aggregator; there are {', '.join(Aggregator)}.")
    if k < 1:
        raise UsageError(f"pass@k needs k of at least 1, not {k}.")
    if len(rows) > MOST_FIELDS or len(columns) > MOST_FIELDS:
        raise UsageError(f"A pivot has at most {MOST_FIELDS} row fields and {MOST_FIELDS} column fields.")
    method, number = Aggregator(aggregator), parse(value)
    found = _grouped(connection, where, [parse(path) for path in (*rows, *columns)], number, method, threshold)
    cells: dict[tuple[Key, Key], _Cell] = {}
    by_row: dict[Key, _Cell] = {}
    by_column: dict[Key, _Cell] = {}
    whole = _Cell()
    merged: dict[tuple[Any, ...], list[Any]] = {}
    row_set: set[Key] = set()
    column_set: set[Key] = set()
    for record in found:
        row, column = tuple(record[: len(rows)]), tuple(record[len(rows) : len(rows) + len(columns)])
        cluster, figures = record[len(rows) + len(columns)], record[len(rows) + len(columns) + 1 :]
        cells.setdefault((row, column), _Cell()).add(*figures)
        for scope in (("row", row), ("column", column), ("whole",)):
            _merge(merged, (*scope, cluster), figures)
        row_set.add(row)
        column_set.add(column)
        if len(row_set) > MOST_ROWS or len(column_set) > MOST_COLUMNS:
            raise UsageError(
                f"The pivot would have more than {MOST_ROWS:,} rows or {MOST_COLUMNS} columns. Choose another field, or filter first."
            )
    row_keys, column_keys = sorted(row_set, key=_order), sorted(column_set, key=_order)
    for scope, figures in merged.items():
        match scope:
            case ("row", row, _):
                by_row.setdefault(row, _Cell()).add(*figures)
            case ("column", column, _):
                by_column.setdefault(column, _Cell()).add(*figures)
            case _:
                whole.add(*figures)

    def shown(cell: _Cell | None) -> dict[str, Any] | None:
        return None if cell is None else _shown(cell, method, k, plain=number.text == AGG_SCORE)

    return {
        "rows": [list(key) for key in row_keys],
        "columns": [list(key) for key in column_keys],
        "cells": [[shown(cells.get((row, column))) for column in column_keys] for row in row_keys],
        "rowTotals": [shown(by_row[row]) for row in row_keys],
        "columnTotals": [shown(by_column[column]) for column in column_keys],
        "grandTotal": shown(whole),
    }


def _grouped(
    connection: sqlite3.Connection, where: Where, keys: list[Path], number: Path, method: Aggregator, threshold: float
) -> Iterable[tuple[Any, ...]]:
    """Per key (and dataset row, where that matters): rollouts, values, sum, least, largest, values that are not 0 or 1, values at the threshold."""
    selected = [path.shown() for path in keys]
    value, value_parameters = number.number()
    if number.is_score:
        value = f"CASE WHEN is_score_valid = 1 AND status IN ({NOT_FAILED}) THEN {value} END"
    clustered = method in (Aggregator.AVG, Aggregator.STDERR, Aggregator.PASS_AT_K)
    cluster = "COALESCE(name, '') || char(0) || COALESCE(row_id, rollout_id)" if clustered else "''"
    columns = "".join(f"{sql} AS k{place}, " for place, (sql, _) in enumerate(selected))
    groups = ", ".join([*(f"k{place}" for place in range(len(selected))), "cluster"])
    return connection.execute(
        f"SELECT {groups}, COUNT(*), COUNT(v), TOTAL(v), MIN(v), MAX(v), COALESCE(SUM(v NOT IN (0, 1)), 0), COALESCE(SUM(v >= ?), 0) "
        f"FROM (SELECT {columns}{cluster} AS cluster, {value} AS v FROM summaries WHERE {where.sql}) GROUP BY {groups}",
        (threshold, *(each for _, parameters in selected for each in parameters), *value_parameters, *where.parameters),
    )


def _merge(merged: dict[tuple[Any, ...], list[Any]], key: tuple[Any, ...], figures: Sequence[Any]) -> None:
    """One dataset row's figures over several cells."""
    known = merged.get(key)
    if known is None:
        merged[key] = list(figures)
        return
    for place in (0, 1, 2, 5, 6):
        known[place] += figures[place]
    if figures[1]:
        known[3] = figures[3] if known[3] is None else min(known[3], figures[3])
        known[4] = figures[4] if known[4] is None else max(known[4], figures[4])


def _order(key: Key) -> list[tuple[bool, bool, Any]]:
    """Numbers before text, nothing last."""
    return [(value is None, isinstance(value, str), value) for value in key]


def _shown(cell: _Cell, method: Aggregator, k: int, *, plain: bool) -> dict[str, Any]:
    """A cell as the wire has it. `plain`: no interval, the value is an aggregate already."""
    value, between = None, None
    total = math.fsum(total for _, total, _ in cell.clusters)
    match method:
        case Aggregator.COUNT:
            return {"value": cell.rollouts, "count": cell.rollouts, "low": None, "high": None}
        case Aggregator.PASS_AT_K:
            estimates = [1.0 - math.comb(n - c, k) / math.comb(n, k) for n, _, c in cell.clusters if n >= k]
            value = math.fsum(estimates) / len(estimates) if estimates else None
            between = interval([[estimate] for estimate in estimates])
        case Aggregator.STDERR:
            value = _standard_error(cell, total)
        case _ if cell.values:
            value = {
                Aggregator.SUM: total,
                Aggregator.AVG: total / cell.values,
                Aggregator.MIN: cell.low,
                Aggregator.MAX: cell.high,
            }[method]
            between = _interval(cell, total) if method is Aggregator.AVG and not plain else None
    low, high = between or (None, None)
    return {"value": value, "count": cell.values, "low": low, "high": high}


def _standard_error(cell: _Cell, total: float) -> float | None:
    """As `evaluation.intervals.clustered_standard_error`, from sums."""
    clusters = len(cell.clusters)
    if clusters < 2:
        return None
    mean = total / cell.values
    squares = math.fsum((each - n * mean) ** 2 for n, each, _ in cell.clusters)
    return math.sqrt(clusters / (clusters - 1) * squares) / cell.values


def _interval(cell: _Cell, total: float) -> tuple[float, float] | None:
    """As `evaluation.intervals.interval`, from sums; of values that are not all in 0..1 Student's t."""
    clusters, mean = len(cell.clusters), total / cell.values
    if cell.binary and cell.values == clusters:
        return wilson(total, clusters)
    error = _standard_error(cell, total)
    if cell.low >= 0.0 and cell.high <= 1.0:
        return bounded(mean, error, clusters)
    if error is None:
        return None
    half = (t_quantile(clusters - 1) if clusters < 10_000 else Z) * error
    return mean - half, mean + half
