"""What a finished evaluation says: as objects, as lines on the terminal, as a summary file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval_protocol.errors import NoValidScores, ResultsError, ThresholdMissed
from eval_protocol.evaluation import local_ui
from eval_protocol.evaluation.aggregation import Aggregate, Estimate
from eval_protocol.models import CompletionParams, EvaluationRow, EvaluationThreshold
from eval_protocol.settings import RunSettings

WIDTH = 80
SHOWN_REASONS = 3


@dataclass(frozen=True)
class ExperimentReport:
    """One experiment, done."""

    name: str
    label: str
    invocation_id: str
    experiment_id: str
    completion_params: CompletionParams
    """Secrets replaced."""
    runs: tuple[tuple[EvaluationRow, ...], ...] = field(
        repr=False
    )  # asyncio formats a finished main task, rows and all
    result: Aggregate
    threshold: EvaluationThreshold | None
    failure: NoValidScores | ThresholdMissed | None
    """Why it did not pass; None when it did."""
    seconds: float
    mode: str = "pointwise"
    notes: tuple[str, ...] = ()
    """Trouble that did not stop the run (the results store could not be written, ...)."""

    @property
    def passed(self) -> bool:
        """Whether something was valid and the threshold was reached."""
        return self.failure is None

    @property
    def rows(self) -> list[EvaluationRow]:
        """The rows of all runs, run by run, in the order of the dataset."""
        return [row for run in self.runs for row in run]

    @property
    def score(self) -> float | None:
        """The aggregate; None when nothing was valid."""
        return self.result.score.value if self.result.score else None


@dataclass(frozen=True)
class EvaluationReport:
    """All experiments of an evaluation."""

    invocation_id: str
    experiments: tuple[ExperimentReport, ...] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether all of them passed."""
        return all(experiment.passed for experiment in self.experiments)

    @property
    def rows(self) -> list[EvaluationRow]:
        """The rows of all experiments."""
        return [row for experiment in self.experiments for row in experiment.rows]

    @property
    def score(self) -> float | None:
        """The aggregate of the only (else the first) experiment."""
        return self.experiments[0].score if self.experiments else None


def score_lines(report: ExperimentReport) -> list[str]:
    """The result for a person: score, interval, counts, and the commonest reasons for what does not count."""
    result = report.result
    title = report.name + (f" · {report.label}" if report.label else "")
    counts = f"{len(report.runs[0])} rows × {len(report.runs)} {'run' if len(report.runs) == 1 else 'runs'}"
    counts += f" · {result.valid} valid, {result.invalid} invalid"
    if result.score is None:
        lines = [title, f"No valid scores · {counts}"]
    else:
        method = "" if result.method == "mean" else f" ({result.method})"
        lines = [title, f"Score {result.score.value:.3f}{method}{_uncertainty(result.score)} · {counts}"]
    lines += [f"  {count} × {reason}" for reason, count in result.reasons[:SHOWN_REASONS]]
    if len(result.reasons) > SHOWN_REASONS:
        lines.append(f"  … and {len(result.reasons) - SHOWN_REASONS} other reasons")
    if report.failure is not None and result.score is not None:
        lines.append(str(report.failure))
    return lines + list(report.notes)


def _uncertainty(estimate: Estimate) -> str:
    if estimate.interval is None:
        return ""
    return f" (95 % interval {estimate.interval[0]:.3f} to {estimate.interval[1]:.3f})"


def results_box(invocation_ids: Iterable[str], settings: RunSettings) -> list[str]:
    """The closing box. Links only when a local UI shows these rows; else where they lie."""
    rule, port = "=" * WIDTH, local_ui.port_of(settings)
    lines = [rule, "📊 LOCAL UI EVALUATION RESULTS", rule]
    for invocation_id in dict.fromkeys(invocation_ids):
        lines.append(f"📊 Invocation {invocation_id}:")
        if port is not None:
            lines.append(f"  📊 Aggregate scores: {local_ui.url(port, 'pivot', invocation_id)}")
            lines.append(f"  📋 Trajectories: {local_ui.url(port, 'table', invocation_id)}")
        else:
            lines.append(f"  📋 Trajectories: {settings.results_db.expanduser()} (SQLite, table rollouts)")
            lines.append("  No local UI shows them now, so there are no links. Start one: ep logs")
    return [*lines, rule]


def summary(report: ExperimentReport) -> dict[str, Any]:
    """The summary artifact for CI."""
    score = report.result.score
    record: dict[str, Any] = {
        "suite": report.name,
        "model": report.completion_params.get("model"),
        "agg_score": score.value if score else None,
        "num_runs": len(report.runs),
        "rows": len(report.runs[0]),
        "valid": report.result.valid,
        "invalid": report.result.invalid,
        "passed": report.passed,
    }
    if score and score.interval:
        record["agg_ci_low"], record["agg_ci_high"] = score.interval
    if score and score.standard_error is not None:
        record["standard_error"] = score.standard_error
    if report.result.metrics:
        record["metrics_agg"] = {name: _metric(estimate) for name, estimate in report.result.metrics.items()}
    return {**record, "timestamp": int(time.time())}


def _metric(estimate: Estimate) -> dict[str, float]:
    low_high = dict(zip(("ci_low", "ci_high"), estimate.interval or (), strict=False))
    return {"mean": estimate.value, **low_high}


def summary_lines(report: ExperimentReport) -> list[str]:
    """What EP_PRINT_SUMMARY prints."""
    record = summary(report)
    rows = report.rows
    raw = sum(row.evaluation_result.score for row in rows if _counts(row)) / len(rows)  # type: ignore[union-attr]
    shown = "none" if record["agg_score"] is None else f"{record['agg_score']:.3f}"
    lines = [
        f"EP Summary | suite={record['suite']} model={record['model']} runs={record['num_runs']} rows={record['rows']}",
        f"  agg_score (valid scores only)={shown}  raw_score (invalid as 0)={raw:.3f}",
    ]
    if "agg_ci_low" in record:
        error = f"{record['standard_error']:.3f}" if "standard_error" in record else "unknown"
        lines.append(f"  se={error} ci95=[{record['agg_ci_low']:.3f}, {record['agg_ci_high']:.3f}]")
    return lines


def _counts(row: EvaluationRow) -> bool:
    return row.evaluation_result is not None and row.evaluation_result.is_score_valid


def write_summaries(path: Path, reports: Sequence[ExperimentReport]) -> list[Path]:
    """Write the summary of each experiment.

    Args:
        path: a file ending in .json (several experiments get `-2`, `-3`, ... before the ending), or a folder that gets
            `suite__model__mode__runsN.json`.

    Raises:
        ResultsError: it cannot be written.
    """
    written: list[Path] = []
    for report in reports:
        target = path.expanduser()
        if target.suffix != ".json":
            target = target / _file_name(report)
        number = 2
        while target in written:
            target = target.with_name(f"{target.stem.removesuffix(f'-{number - 1}')}-{number}.json")
            number += 1
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            temporary.write_text(json.dumps(summary(report), indent=2) + "\n")
            temporary.replace(target)
        except OSError as error:
            raise ResultsError(
                f"The summary could not be written to {target}: {error}. Check EP_SUMMARY_JSON."
            ) from error
        written.append(target)
    return written


def _file_name(report: ExperimentReport) -> str:
    parts = [report.name, str(report.completion_params.get("model") or "no-model")]
    effort = report.completion_params.get("reasoning_effort")
    parts += [f"effort-{effort}"] if effort else []
    parts += [report.mode, f"runs{len(report.runs)}"]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "__".join(parts)) + ".json"
