"""Two invocations, or two models, on the same rows: differences row by row, and whether they may be chance.

A pair is one dataset row of one evaluation with valid scores on both sides; the runs of a side count as their mean.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.evaluation.intervals import t_quantile
from eval_protocol.results.filters import EVERYTHING, Where
from eval_protocol.results.summaries import NOT_FAILED

SIDES = {"invocation": "invocation_id", "model": "model"}
EXACT_PAIRS = 16
"""With at most so many pairs that differ, every combination of signs is tried."""
FLIPS = 10_000
MOST_FLIPPED_PAIRS = 2000
"""Beyond, the mean is as good as normal, and flipping would take seconds."""
SEED = 42
MOST_IDS = 100
"""Rollouts that are named of each side of a pair, the newest."""
SIGN_TEST, SIGN_FLIPS, T_TEST = "exact sign test (McNemar)", "sign-flip permutation test", "paired t-test"


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
    """95 % interval of the mean difference (Student's t over pairs); None with fewer than two pairs."""
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
    """Means, wins, the interval of the mean difference, and a test of it.

    The test: the exact sign test on the pairs that differ (McNemar's, exact) where every value is 0 or 1; else a permutation test that
    flips the signs of the differences, exact or with 10,000 flips; the paired t-test beyond 2,000 pairs that differ.
    """
    differences = [pair.difference for pair in pairs]
    n = len(differences)
    wins, losses = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    if n == 0:
        return Summary(0, 0, 0, 0, None, None, None, None, None, None, None)
    mean = math.fsum(differences) / n
    low = high = None
    if n > 1:
        error = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1) / n)
        half = t_quantile(n - 1) * error
        low, high = mean - half, mean + half
    binary = all(value in (0.0, 1.0) for pair in pairs for value in (pair.left, pair.right))
    p, test = (sign_test(wins, losses), SIGN_TEST) if binary else _test(differences)
    return Summary(
        n=n,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        mean_left=math.fsum(pair.left for pair in pairs) / n,
        mean_right=math.fsum(pair.right for pair in pairs) / n,
        difference=mean,
        low=low,
        high=high,
        p=p,
        test=test,
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of so many wins among the pairs that differ, each as likely a win as a loss."""
    n, fewer = wins + losses, min(wins, losses)
    if n > MOST_FLIPPED_PAIRS:
        z = (abs(wins - losses) - 1) / math.sqrt(n)  # with the continuity correction of Edwards (1948)
        return min(1.0, math.erfc(max(0.0, z) / math.sqrt(2)))
    return min(1.0, 2 * sum(math.comb(n, each) for each in range(fewer + 1)) / 2**n)


def _test(differences: Sequence[float]) -> tuple[float, str]:
    moved = [each for each in differences if each]
    if len(moved) > MOST_FLIPPED_PAIRS:
        n, mean = len(differences), math.fsum(differences) / len(differences)
        error = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1) / n)
        return (math.erfc(abs(mean) / error / math.sqrt(2)) if error else 0.0), T_TEST
    return sign_flips(moved), SIGN_FLIPS


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided p-value of a sum of differences, were each sign as likely as the other. The same numbers give the same p-value."""
    if not differences:
        return 1.0
    observed = abs(math.fsum(differences)) - 1e-9 * math.fsum(map(abs, differences))
    tables = [_sums(differences[start : start + 8]) for start in range(0, len(differences), 8)]
    if len(differences) <= EXACT_PAIRS:
        first, second = tables[0], tables[1] if len(tables) > 1 else [0.0]
        extreme = sum(abs(one + other) >= observed for one in first for other in second)
        return extreme / (len(first) * len(second))
    generator, extreme = random.Random(SEED), 0
    sizes = [len(table) - 1 for table in tables]
    for _ in range(FLIPS):
        signs = generator.randbytes(len(tables))
        total = sum(table[sign & size] for table, sign, size in zip(tables, signs, sizes, strict=True))
        extreme += abs(total) >= observed
    return (1 + extreme) / (1 + FLIPS)  # the observed signs are one of the draws, so that it is never 0


def _sums(values: Sequence[float]) -> list[float]:
    """The sum of up to eight values under each choice of signs."""
    sums = [0.0]
    for value in values:
        sums = [total - value for total in sums] + [total + value for total in sums]
    return sums
