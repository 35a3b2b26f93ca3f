"""Two invocations, or two models, on the same rows: differences row by row, and whether they may be chance.

A pair is one dataset row of one evaluation with valid scores on both sides; the runs of a side count as their mean.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.evaluation.paired import paired
from eval_protocol.results.filters import EVERYTHING, Where
from eval_protocol.results.summaries import NOT_FAILED

SIDES = {"invocation": "invocation_id", "model": "model"}
MOST_IDS = 100
"""Rollouts that are named of each side of a pair, the newest."""


@dataclass(frozen=True)
class Pair:
    """One row on both sides."""

    name: str
    row_id: str
    left: float
    right: float

    @property
    def difference(self) -> float:
        """Right minus left."""
        return self.right - self.left


@dataclass(frozen=True)
class Summary:
    """What all pairs say. Differences are right minus left."""

    n: int
    wins: int
    """Pairs where the right side is better."""
    losses: int
    ties: int
    mean_left: float | None
    mean_right: float | None
    difference: float | None
    low: float | None
    """95 % interval of the mean difference; None without pairs."""
    high: float | None
    p: float | None
    """Two-sided: how likely so large a mean difference would be if the sides were alike."""
    test: str | None


def compare(
    connection: sqlite3.Connection,
    by: str,
    left: str,
    right: str,
    where: Where = EVERYTHING,
    *,
    page: int = 1,
    page_size: int = 50,
) -> dict[str, Any]:
    """The comparison of docs/reference/dashboard.md, most different pairs first.

    Args:
        by: `invocation` or `model`.
        left, right: an invocation id or a model each.

    Raises:
        UsageError: `by`, the page, or the two sides cannot be.
    """
    if by not in SIDES:
        raise UsageError(f"by must be invocation or model, not {by!r}.")
    if not left or not right or left == right:
        raise UsageError(f"left and right must be two different {by}s.")
    if page < 1 or not 1 <= page_size <= 500:
        raise UsageError(f"page must be 1 or more, and pageSize 1 to 500; not {page} and {page_size}.")
    pairs, unpaired = _pairs(connection, SIDES[by], left, right, where)
    pairs.sort(key=lambda pair: (-abs(pair.difference), -pair.difference, pair.name, pair.row_id))
    shown = pairs[(page - 1) * page_size : page * page_size]
    summary = summarise(pairs)
    return {
        "pairs": _shown(connection, SIDES[by], left, right, where, shown),
        "total": len(pairs),
        "summary": {
            "n": summary.n,
            "wins": summary.wins,
            "losses": summary.losses,
            "ties": summary.ties,
            "meanLeft": summary.mean_left,
            "meanRight": summary.mean_right,
            "difference": summary.difference,
            "low": summary.low,
            "high": summary.high,
            "p": summary.p,
            "test": summary.test,
        },
        "unpaired": {"left": unpaired[0], "right": unpaired[1]},
    }


def _pairs(
    connection: sqlite3.Connection, column: str, left: str, right: str, where: Where
) -> tuple[list[Pair], tuple[int, int]]:
    sides: tuple[dict[tuple[str, str], float | None], ...] = ({}, {})
    for side, value in enumerate((left, right)):
        for name, row_id, mean in connection.execute(
            f"SELECT COALESCE(name, ''), row_id, AVG(CASE WHEN is_score_valid = 1 AND status IN ({NOT_FAILED}) THEN score END) "
            f"FROM summaries WHERE {column} = ? AND row_id IS NOT NULL AND ({where.sql}) GROUP BY name, row_id",
            (value, *where.parameters),
        ):
            sides[side][name, row_id] = mean
    pairs = [
        Pair(*key, mean, other)
        for key, mean in sides[0].items()
        if mean is not None and (other := sides[1].get(key)) is not None
    ]
    return pairs, (len(sides[0]) - len(pairs), len(sides[1]) - len(pairs))


def _shown(
    connection: sqlite3.Connection, column: str, left: str, right: str, where: Where, pairs: Sequence[Pair]
) -> list[dict[str, Any]]:
    """The pairs as the wire has them, with the rollouts behind them, in one look at the store."""
    if not pairs:
        return []
    marks = ", ".join(["(?, ?)"] * len(pairs))
    keys = [text for pair in pairs for text in (pair.name, pair.row_id)]
    ids: dict[tuple[str, str, str], list[str]] = {}
    prompts: dict[tuple[str, str], str] = {}
    for side, name, row_id, rollout_id, prompt in connection.execute(
        f"SELECT {column}, COALESCE(name, ''), row_id, rollout_id, prompt FROM summaries WHERE {column} IN (?, ?) "
        f"AND (COALESCE(name, ''), row_id) IN (VALUES {marks}) AND ({where.sql}) "
        f"ORDER BY is_score_valid IS 1 AND status IN ({NOT_FAILED}) DESC, created DESC, id DESC",  # those that count come first
        (left, right, *keys, *where.parameters),
    ):
        listed = ids.setdefault((side, name, row_id), [])
        if len(listed) < MOST_IDS:
            listed.append(rollout_id)
        prompts.setdefault((name, row_id), prompt)
    return [
        {
            "rowId": pair.row_id,
            "name": pair.name,
            "left": pair.left,
            "right": pair.right,
            "difference": pair.difference,
            "leftIds": ids.get((left, pair.name, pair.row_id), []),
            "rightIds": ids.get((right, pair.name, pair.row_id), []),
            "prompt": prompts.get((pair.name, pair.row_id), ""),
        }
        for pair in pairs
    ]


def summarise(pairs: Sequence[Pair]) -> Summary:
    """Means, wins, the interval of the mean difference, and a test of it (`evaluation/paired.py`)."""
    differences = [pair.difference for pair in pairs]
    n = len(differences)
    wins, losses = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    if n == 0:
        return Summary(0, 0, 0, 0, None, None, None, None, None, None, None)
    left, right = [pair.left for pair in pairs], [pair.right for pair in pairs]
    found = paired(left, right)
    return Summary(
        n=n,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        mean_left=math.fsum(left) / n,
        mean_right=math.fsum(right) / n,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        test=found.test,
    )
