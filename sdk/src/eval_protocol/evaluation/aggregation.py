"""From the scored rows of an experiment to one number with its uncertainty, and whether it passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from eval_protocol.errors import NoValidScores, ThresholdMissed
from eval_protocol.evaluation import intervals
from eval_protocol.evaluation.spec import AggregationMethod
from eval_protocol.models import EvaluationRow, EvaluationThreshold

LONGEST_REASON = 1000
"""Characters of a reason; of a longer one the middle is left out, because the end says what to do."""


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty."""

    value: float
    standard_error: float | None = None
    """None where it cannot be known (a single row, max, min)."""
    interval: tuple[float, float] | None = None
    """95 %."""


@dataclass(frozen=True)
class Aggregate:
    """The result of one experiment."""

    method: AggregationMethod
    score: Estimate | None
    """None when no score was valid."""
    valid: int
    failed_rollouts: int
    invalid_scores: int
    """Rollouts that worked and got no valid score."""
    reasons: tuple[tuple[str, int], ...] = ()
    """Why rollouts or scores were invalid, commonest first."""
    metrics: dict[str, Estimate] = field(default_factory=dict)
    scores: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """Valid scores per row."""

    @property
    def invalid(self) -> int:
        """Everything that was left out of the score."""
        return self.failed_rollouts + self.invalid_scores

    def pass_at(self, k: int) -> float | None:
        """Unbiased pass@k, where a score of 1 solves a row."""
        return intervals.pass_at_k(self.scores, k)


def valid_score(row: EvaluationRow) -> float | None:
    """The row's score if it counts."""
    result = row.evaluation_result
    if result is None or not result.is_score_valid or row.rollout_status.is_error():
        return None
    return float(result.score)


def invalid_reason(row: EvaluationRow) -> str:
    """Why the row does not count."""
    if row.rollout_status.is_error():
        return f"rollout failed: {row.rollout_status.message or row.rollout_status.code.name}"
    result = row.evaluation_result
    return (result.reason if result else None) or "marked invalid by the evaluator"


def _one_line(reason: str) -> str:
    line = next(iter(reason.splitlines()), "")
    half = LONGEST_REASON // 2
    return line if len(line) <= LONGEST_REASON else f"{line[:half]} … {line[-half:]}"


def aggregate(runs: Sequence[Sequence[EvaluationRow]], method: AggregationMethod = "mean") -> Aggregate:
    """Aggregate an experiment.

    Args:
        runs: the rows of each run, in the same order in every run.
        method: mean over all valid scores; max or min of the runs' means; bootstrap over rows.
    """
    rows = [row for run in runs for row in run]
    invalid = [row for row in rows if valid_score(row) is None]
    reasons = Counter(_one_line(invalid_reason(row)) for row in invalid)
    groups = _groups([[valid_score(row) for row in run] for run in runs])
    failed = sum(row.rollout_status.is_error() for row in invalid)
    return Aggregate(
        method=method,
        score=_estimate(runs, groups, method),
        valid=len(rows) - len(invalid),
        failed_rollouts=failed,
        invalid_scores=len(invalid) - failed,
        reasons=tuple(reasons.most_common()),
        metrics=_metrics(runs),
        scores=tuple(tuple(group) for group in groups),
    )


def _groups(runs: Sequence[Sequence[float | None]]) -> list[list[float]]:
    return [[score for score in scores if score is not None] for scores in zip(*runs, strict=True)]


def _estimate(
    runs: Sequence[Sequence[EvaluationRow]], groups: Sequence[Sequence[float]], method: AggregationMethod
) -> Estimate | None:
    if not any(groups):
        return None
    if method == "mean":
        return _mean(groups)
    if method == "bootstrap":
        return Estimate(*intervals.bootstrap(groups), intervals.interval(groups))
    means = []
    for run in runs:
        scores = [score for row in run if (score := valid_score(row)) is not None]
        if scores:
            means.append(intervals.mean(scores))
    return Estimate(max(means) if method == "max" else min(means))


def _mean(groups: Sequence[Sequence[float]]) -> Estimate:
    values = [value for group in groups for value in group]
    return Estimate(intervals.mean(values), intervals.clustered_standard_error(groups), intervals.interval(groups))


def _metrics(runs: Sequence[Sequence[EvaluationRow]]) -> dict[str, Estimate]:
    counted = [row for run in runs for row in run if valid_score(row) is not None]
    names = dict.fromkeys(
        name for row in counted for name in (row.evaluation_result.metrics if row.evaluation_result else ())
    )

    def value(row: EvaluationRow, name: str) -> float | None:
        metric = row.evaluation_result.metrics.get(name) if row.evaluation_result else None
        return metric.score if metric and metric.is_score_valid and valid_score(row) is not None else None

    estimates = {}
    for name in names:
        groups = _groups([[value(row, name) for row in run] for run in runs])
        if any(groups):
            estimates[name] = _mean(groups)
    return estimates


def verdict(
    result: Aggregate, threshold: EvaluationThreshold | None, *, failed_is_fatal: bool = False
) -> NoValidScores | ThresholdMissed | None:
    """None when the experiment passes, else why it does not.

    Args:
        failed_is_fatal: any rollout that failed for good fails the experiment (`raise_on_giveup`).
    """
    commonest = f" Commonest reason: {result.reasons[0][0]}" if result.reasons else ""
    if result.score is None:
        return NoValidScores(f"No valid scores: all {result.invalid} rollouts failed or got no valid score.{commonest}")
    if failed_is_fatal and result.failed_rollouts:
        return ThresholdMissed(f"{result.failed_rollouts} rollouts failed for good.{commonest}")
    if threshold is None:
        return None
    if threshold.success is not None and result.score.value < threshold.success:
        return ThresholdMissed(
            f"Aggregated score {result.score.value:.3f} is below the threshold {threshold.success:g}."
        )
    if threshold.standard_error is not None:
        error = result.score.standard_error
        if error is None:
            return ThresholdMissed(
                f"The threshold asks for a standard error of at most {threshold.standard_error:g}, which cannot be known here "
                "(one row, or aggregation by max or min)."
            )
        if error > threshold.standard_error:
            return ThresholdMissed(
                f"The standard error {error:.3f} is above the threshold {threshold.standard_error:g}; use more rows or runs."
            )
    return None
