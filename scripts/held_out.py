"""Score models on held-out rows through the public road: `python evaluation.py` with EP_* overrides, rows read from its output.

Used by the demos and the learning curves. Intervals, 95 %, are the SDK's (`eval_protocol/evaluation/intervals.py`). pass@k:
unbiased (Chen et al., 2021), where a pass is a score of 1.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval_protocol.evaluation import intervals
from eval_protocol.evaluation.paired import paired

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)


@dataclass(frozen=True)
class Score:
    """Mean score of `n` problems, one sample each, with its 95 % interval."""

    temperature: float
    mean: float
    low: float
    high: float
    n: int
    invalid: int
    by_row: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The valid scores by row id."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Measured:
    """One model on the held-out rows."""

    model: str
    scores: tuple[Score, ...]
    pass_at_8: float
    pass_problems: int
    samples: tuple[tuple[str, str, float], ...]
    """(question, answer at temperature 1, score) of the first rows."""

    @property
    def best(self) -> Score:
        """The score at the model's best temperature: the baseline that a gain must beat."""
        return max(self.scores, key=lambda score: score.mean)

    def at(self, temperature: float) -> Score:
        """The score at one temperature."""
        return next(score for score in self.scores if score.temperature == temperature)

    def as_json(self) -> dict[str, Any]:
        """Plain data, without the scores of single rows."""
        plain = asdict(self)
        for score in plain["scores"]:
            del score["by_row"]
        return {**plain, "best_temperature": self.best.temperature}


def measure(
    project: Path,
    model: str,
    *,
    rows: Path,
    env: Mapping[str, str],
    problems: int = 600,
    pass_problems: int = 100,
    max_tokens: int = 80,
    samples: int = 3,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run `python evaluation.py` in `project` on `rows` for one model; raises RuntimeError with its output when it fails."""
    params = [{"model": model, "temperature": t, "max_tokens": max_tokens} for t in TEMPERATURES]
    say(f"{problems} problems at temperature {', '.join(f'{t:g}' for t in TEMPERATURES)}")
    by_temperature: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in _evaluate(project, params, rows=rows, env=env, problems=problems, runs=1):
        by_temperature[float(row["input_metadata"]["completion_params"]["temperature"])].append(row)
    scores = tuple(score_of(temperature, by_temperature[temperature]) for temperature in TEMPERATURES)

    say(f"pass@8 on {pass_problems} problems")
    attempts: dict[str, list[float]] = defaultdict(list)
    for row in _evaluate(project, params[-1:], rows=rows, env=env, problems=pass_problems, runs=8):
        if _is_valid(row):
            attempts[row["input_metadata"]["row_id"]].append(row["evaluation_result"]["score"])
    tried = [each for each in attempts.values() if len(each) >= 8]
    warm = sorted(by_temperature[1.0], key=lambda row: row["input_metadata"]["row_id"])
    shown = tuple(
        (_text(row, "user"), _text(row, "assistant"), row["evaluation_result"]["score"]) for row in warm[:samples]
    )
    return Measured(model, scores, intervals.pass_at_k(tried, 8) or 0.0, len(tried), shown)


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Of the mean of `scores`, each 0 to 1, one a problem."""
    return intervals.interval([[score] for score in scores]) or (0.0, 1.0)


def difference(after: Score, before: Score) -> tuple[float, float, float]:
    """Mean gain with its 95 % interval: paired, over the rows that both answered with a valid score.

    What makes a row hard for both does not widen it. Without a common row: the difference of the means, with Newcombe's hybrid of the two
    intervals (Newcombe 1998, method 10).
    """
    common = sorted(after.by_row.keys() & before.by_row.keys())
    if common:
        found = paired([before.by_row[row] for row in common], [after.by_row[row] for row in common])
        return found.difference, found.low, found.high
    gain = after.mean - before.mean
    low = gain - math.hypot(after.mean - after.low, before.high - before.mean)
    high = gain + math.hypot(after.high - after.mean, before.mean - before.low)
    return gain, low, high


def _evaluate(
    project: Path, params: Sequence[dict[str, Any]], *, rows: Path, env: Mapping[str, str], problems: int, runs: int
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as output:
        overrides = {
            "EP_JSONL_PATH": str(rows),
            "EP_COMPLETION_PARAMS": json.dumps(list(params)),
            "EP_MAX_DATASET_ROWS": str(problems),
            "EP_NUM_RUNS": str(runs),
            "EP_OUTPUT_DIR": output,
            "EP_PASSED_THRESHOLD": "0",
            "EP_RESULTS_DB": str(Path(output) / "results.db"),
        }
        ended = subprocess.run(
            [sys.executable, "evaluation.py"],
            cwd=project,
            env={**os.environ, **env, **overrides},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if ended.returncode != 0:
            raise RuntimeError(
                f"python evaluation.py failed in {project}:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
            )
        files = sorted(Path(output).rglob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _is_valid(row: dict[str, Any]) -> bool:
    result = row.get("evaluation_result")
    return bool(result) and result["is_score_valid"]


def score_of(temperature: float, rows: Sequence[dict[str, Any]]) -> Score:
    """The score of one model at one temperature, from the rows that the evaluation wrote."""
    by_row: dict[str, list[float]] = defaultdict(list)
    for row in filter(_is_valid, rows):
        by_row[row["input_metadata"]["row_id"]].append(row["evaluation_result"]["score"])
    valid = [score for scores in by_row.values() for score in scores]
    low, high = interval(valid)
    means = {row: intervals.mean(scores) for row, scores in by_row.items()}
    return Score(temperature, sum(valid) / max(1, len(valid)), low, high, len(valid), len(rows) - len(valid), means)


def _text(row: dict[str, Any], role: str) -> str:
    return next((m["content"] for m in reversed(row["messages"]) if m["role"] == role), "")
