"""From the lines of a run to points: names as trackers group them (`reward/mean`), optimizer steps as the x axis.

| file | kind | step | names |
|---|---|---|---|
| metrics.jsonl | a step | the step | `train/...` |
| events.jsonl | chunk | steps taken before it | `reward/...`, `rollouts/...`, `time/...`, `evaluator/...` (its own metrics) |
| events.jsonl | evaluation | the policy version | `held_out/...` |

The meaning of each figure is in docs/reference/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.runs.files import read_json_lines

FILES = ("metrics.jsonl", "events.jsonl")
_TRAIN = (
    *("loss", "grad_norm", "learning_rate", "trained_tokens", "mismatch_max", "mismatch_mean", "entropy", "kl"),
    *("ratio_p01", "ratio_p99", "clip_fraction", "cpu_seconds", "seconds"),
)
_CHUNK = {
    "mean_score": "reward/mean",
    "score_std": "reward/std",
    "score_p10": "reward/p10",
    "score_p90": "reward/p90",
    "solved_all": "reward/solved_all",
    "solved_none": "reward/solved_none",
    "kept_groups": "rollouts/kept_groups",
    "dropped_groups": "rollouts/dropped_groups",
    "constant_groups": "rollouts/constant_groups",
    "invalid": "rollouts/invalid",
    "truncated": "rollouts/truncated",
    "completion_tokens_p50": "rollouts/completion_tokens_p50",
    "completion_tokens_p95": "rollouts/completion_tokens_p95",
    "turns": "rollouts/turns",
    "staleness_mean": "rollouts/staleness_mean",
    "staleness_max": "rollouts/staleness_max",
    "rollout_seconds": "time/rollout_seconds",
    "wait_seconds": "time/wait_for_learner_seconds",
    "publish_seconds": "time/publish_seconds",
    "evaluation_seconds": "time/evaluation_seconds",
}
_EVALUATION = {"score": "held_out/score", "low": "held_out/low", "high": "held_out/high", "invalid": "held_out/invalid"}


@dataclass(frozen=True)
class Point:
    """What one line of a run says: some figures at one step."""

    file: str
    number: int
    """Of the points of that file, from 0."""
    step: int
    time: float | None
    """Unix seconds, where the line has them."""
    values: dict[str, float]


class Points:
    """The points of one run directory, as its files grow."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._offsets = dict.fromkeys(FILES, 0)
        self._numbers = dict.fromkeys(FILES, 0)

    def new(self) -> Iterator[Point]:
        """Those that were written since the last call. The first call gives all that are there."""
        for file in FILES:
            path = self._run_dir / file
            if not path.exists() or path.stat().st_size <= self._offsets[file]:
                continue
            for offset, line in read_json_lines(path, self._offsets[file]):
                self._offsets[file] = offset
                found = _values(file, line)
                if found is None:
                    continue
                step, values = found
                yield Point(file, self._numbers[file], step, line.get("time"), values)
                self._numbers[file] += 1


def _values(file: str, line: dict[str, Any]) -> tuple[int, dict[str, float]] | None:
    """(step, figures) of a line; None where it has none to show."""
    if file == "metrics.jsonl":
        return line["step"], _numbers({f"train/{name}": line.get(name) for name in _TRAIN})
    if line["kind"] == "evaluation":
        return line["version"], _numbers({name: line.get(field) for field, name in _EVALUATION.items()})
    if line["kind"] != "chunk":
        return None
    own = line.get("metrics")
    figures = {name: line.get(field) for field, name in _CHUNK.items()}
    figures |= {f"evaluator/{name}": value for name, value in (own if isinstance(own, dict) else {}).items()}
    return line["step"], _numbers({**figures, "rollouts/chunk": line["chunk"]})


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
