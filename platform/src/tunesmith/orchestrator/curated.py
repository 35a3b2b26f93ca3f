"""The few figures of a chunk that tell how a run goes: spread of scores, solved groups, lengths, turns, and where the time went."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tunesmith.orchestrator.groups import ScoredRollout


class Stopwatch:
    """Adds up the seconds that a chunk spends on each kind of work; reading starts them anew."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Count the time inside as spent on `what`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[what] += time.monotonic() - started

    def read(self) -> dict[str, float]:
        """`rollout_seconds`, `publish_seconds`, `evaluation_seconds`, `wait_seconds` (for the learner) since the last reading."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return {f"{name}_seconds": round(seconds[name], 3) for name in ("rollout", "publish", "evaluation", "wait")}


def curated(rollouts: Sequence[ScoredRollout]) -> dict[str, Any]:
    """Fields of a `chunk` event (`docs/reference/dashboard.md`, curated metrics); None where nothing was scored or recorded.

    `score_std` is the population standard deviation over all valid scores. `solved_all` and `solved_none` are shares of the groups
    with at least one valid score: those whose valid scores are all 1, or all 0. Percentiles interpolate linearly.
    """
    scores = [rollout.score for rollout in rollouts if rollout.is_score_valid and rollout.score is not None]
    groups: dict[int, list[float]] = defaultdict(list)
    metrics: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        if rollout.is_score_valid and rollout.score is not None:
            groups[rollout.row_index].append(rollout.score)
            for name, value in rollout.metrics.items():
                metrics[name].append(value)
    calls = [rollout.calls for rollout in rollouts if rollout.calls is not None and rollout.calls.turns]
    lengths = [call.completion_tokens for call in calls]
    trained = [rollout for rollout in rollouts if rollout.sequences]
    p10, p90 = _percentiles(scores, 10, 90)
    p50, p95 = _percentiles(lengths, 50, 95)
    return {
        "score_std": round(float(np.std(scores)), 6) if scores else None,
        "score_p10": p10,
        "score_p90": p90,
        "solved_all": _share([min(group) >= 1.0 for group in groups.values()]),
        "solved_none": _share([max(group) <= 0.0 for group in groups.values()]),
        "truncated": _share([call.truncated for call in calls]),
        "completion_tokens_p50": p50,
        "completion_tokens_p95": p95,
        "forks": round(sum(len(r.sequences) - 1 for r in trained) / len(trained), 4) if trained else None,
        "turns": round(sum(call.turns for call in calls) / len(calls), 3) if calls else None,
        "metrics": {name: round(sum(values) / len(values), 6) for name, values in sorted(metrics.items())},
    }


def _percentiles(values: Sequence[float], low: float, high: float) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    first, second = np.percentile(values, [low, high])
    return round(float(first), 4), round(float(second), 4)


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None
