"""The preflight: a few rows rolled out with version 0 before the first step, and what they say of the training to come.

Reported, not judged: a job goes on whatever it says, unless no score at all is valid. Its rollouts have ids, and so noise, of their own;
they are not trained on. Cut by a restart, it goes on with what was recorded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.orchestrator.curated import curated
from tunesmith.orchestrator.groups import ScoredRollout, commonest_reasons
from tunesmith.runs.config import RunConfig
from tunesmith.runs.intervals import interval, mean, pass_at_k

SOLVED = 1.0
"""A score of at least this passes, unless the evaluator names a threshold."""
FEW_VARY, TRUNCATED, INVALID = 0.1, 0.25, 0.1
"""Shares from which a preflight warns: groups that vary (fewer), rollouts cut at their token limit, rollouts without a valid score."""
LONG_SECONDS = 86_400.0
TRAINING_FACTOR = 3.0
"""A job takes at most about so many times its rollouts: training, publishing, evaluation."""
LOW, HIGH = 0.05, 0.95
"""Mean scores below and above which groups that do not vary are taken for unsolved and solved."""


@dataclass(frozen=True)
class Baseline:
    """The base model at one temperature."""

    temperature: float
    rollouts: list[ScoredRollout]

    def wire(self, threshold: float) -> dict[str, Any]:
        """Mean score with its 95 % interval, clustered by row, and how many rollouts pass, as a share."""
        groups = _groups(self.rollouts)
        scores = [score for group in groups for score in group]
        low, high = interval(groups) or (0.0, 1.0)
        return {
            "temperature": self.temperature,
            "mean_score": _rounded(mean(scores)) if scores else None,
            "low": _rounded(low),
            "high": _rounded(high),
            "pass_at_1": _rounded(pass_at_k(groups, 1, threshold)),
            "rollouts": len(scores),
        }


def chosen_rows(row_count: int, most: int, seed: int) -> list[int]:
    """Indices of the rows that are rolled out, at most `most`, drawn from the seed."""
    return sorted(random.Random(f"{seed}/preflight").sample(range(row_count), min(most, row_count)))


def figures(
    rollouts: Sequence[ScoredRollout],
    config: RunConfig,
    *,
    threshold: float,
    seconds: float | None,
    total_rollouts: int,
    baselines: Sequence[Baseline] = (),
) -> dict[str, Any]:
    """Fields of the `preflight` event.

    Args:
        rollouts: of version 0, `n` a row.
        threshold: a score of at least this passes.
        seconds: that they took; None where an earlier process did a part of them.
        total_rollouts: of the whole job.
        baselines: the base model at other temperatures.
    """
    groups = _groups(rollouts)
    valid = [score for group in groups for score in group]
    counted = [rollout for rollout in rollouts if not rollout.straggler]
    invalid = sum(not rollout.is_score_valid for rollout in counted)
    whole = [group for group in groups if len(group) > 1]
    varying = sum(max(group) > min(group) for group in whole)
    lengths = [rollout.calls.completion_tokens for rollout in rollouts if rollout.calls and rollout.calls.turns]
    few = min(8, config.n)
    low, high = interval(groups) or (0.0, 1.0)
    chunk = curated(rollouts)
    found: dict[str, Any] = {
        "rows": len({rollout.row_index for rollout in rollouts}),
        "n": config.n,
        "rollouts": len(rollouts),
        "invalid": invalid,
        "temperature": config.sampling.temperature,
        "threshold": threshold,
        "mean_score": _rounded(mean(valid)) if valid else None,
        "low": _rounded(low),
        "high": _rounded(high),
        "pass_at_1": _rounded(pass_at_k(groups, 1, threshold)),
        "pass_at_8": _rounded(pass_at_k(groups, few, threshold)),
        "pass_at_8_k": few,
        "groups": len(whole),
        "varying_groups": varying,
        "solved_groups": sum(min(group) >= threshold for group in whole),
        "unsolved_groups": sum(max(group) <= 0.0 for group in whole),
        "truncated": chunk["truncated"],
        "completion_tokens_mean": _rounded(mean(lengths)) if lengths else None,
        "completion_tokens_p95": chunk["completion_tokens_p95"],
        "seconds": round(seconds, 3) if seconds is not None else None,
        "estimate": _estimate(lengths, seconds, len(rollouts), total_rollouts, config),
        "baselines": [baseline.wire(threshold) for baseline in baselines],
        "by_row": _by_row(rollouts, few, threshold),
    }
    warnings = warnings_of(found)
    return {**found, "warnings": warnings, **verdict(found)}


def warnings_of(found: dict[str, Any]) -> list[str]:
    """What a person should know before the job spends more, each as a sentence with its remedy."""
    said = []
    groups, varying, average = found["groups"], found["varying_groups"], found["mean_score"] or 0.0
    if not groups or varying < FEW_VARY * groups:
        said.append(f"Only {varying} of {groups} groups have scores that differ. {_flat_remedy(average)}")
    truncated = found["truncated"] or 0.0
    if truncated > TRUNCATED:
        said.append(
            f"{truncated:.0%} of the rollouts were cut at their token limit: raise inferenceParameters.maxOutputTokens, or ask for shorter "
            "answers."
        )
    if found["invalid"] > INVALID * found["rollouts"]:
        said.append(
            f"{found['invalid']} of {found['rollouts']} rollouts have no valid score: `ep local-test` shows why; a job fails where it is more "
            "than half of a chunk."
        )
    estimate = found["estimate"]
    if estimate and estimate["seconds"] and estimate["seconds"]["low"] > LONG_SECONDS:
        days = estimate["seconds"]["low"] / 86_400
        said.append(f"The rollouts alone will take about {days:.1f} days here: use fewer rows, epochs or candidates.")
    return said


def verdict(found: dict[str, Any]) -> dict[str, str]:
    """`verdict`: one sentence; `advice`: what to do."""
    groups, varying, average = found["groups"], found["varying_groups"], found["mean_score"]
    if average is None:
        return {
            "verdict": "Not trainable: no rollout has a valid score.",
            "advice": "Run the evaluator with `ep local-test`.",
        }
    if not groups or varying < FEW_VARY * groups:
        state = "the model never gets it" if average <= LOW else "nothing is left to learn" if average >= HIGH else ""
        because = f": {state}" if state else ""
        return {
            "verdict": f"Hardly trainable as it stands: {varying} of {groups} groups have scores that differ{because}.",
            "advice": _flat_remedy(average),
        }
    if found["pass_at_1"]:
        many = f", pass@{found['pass_at_8_k']} {found['pass_at_8']:.2f}" if found["pass_at_8"] is not None else ""
        reached = f"pass@1 {found['pass_at_1']:.2f}{many}"
    else:
        reached = f"mean score {average:.2f}; none reaches {found['threshold']:g} yet"
    return {
        "verdict": f"Trainable: {varying} of {groups} groups have scores that differ ({reached}).",
        "advice": " ".join(warnings_of(found))
        or "Start the job; judge it against the base model at its best temperature.",
    }


def no_valid_score(rollouts: Sequence[ScoredRollout]) -> str | None:
    """The error of a preflight in which nothing was scored; None where something was."""
    if any(rollout.is_score_valid for rollout in rollouts):
        return None
    return (
        f"None of the {len(rollouts)} rollouts of the preflight has a valid score: {commonest_reasons(rollouts)}. "
        "Run the evaluator with `ep local-test` on these rows."
    )


def _flat_remedy(average: float) -> str:
    if average <= LOW:
        return (
            "Almost every score is 0, and a group without difference teaches nothing: give partial credit, easier rows, more candidates, or an "
            "SFT start (warmStartFrom)."
        )
    if average >= HIGH:
        return "Almost every score is full: take harder rows, or a stricter evaluator."
    return (
        "The rollouts of a row score alike: raise the temperature or the number of candidates, or score in finer steps."
    )


def _estimate(
    lengths: Sequence[int], seconds: float | None, rolled: int, total: int, config: RunConfig
) -> dict[str, Any] | None:
    if not rolled:
        return None
    rolling = seconds / rolled * total if seconds is not None else None
    return {
        "rollouts": total,
        "rows": total // (config.epochs * config.n),
        "n": config.n,
        "epochs": config.epochs,
        "sampled_tokens": round(mean(lengths) * total) if lengths else None,
        "seconds": {"low": round(rolling), "high": round(rolling * TRAINING_FACTOR)} if rolling is not None else None,
    }


def _groups(rollouts: Sequence[ScoredRollout]) -> list[list[float]]:
    """Valid scores by row."""
    groups: dict[int, list[float]] = {}
    for rollout in rollouts:
        if rollout.is_score_valid and rollout.score is not None:
            groups.setdefault(rollout.row_index, []).append(rollout.score)
    return list(groups.values())


def _by_row(rollouts: Sequence[ScoredRollout], few: int, threshold: float) -> list[dict[str, Any]]:
    rows: dict[int, list[float]] = {rollout.row_index: [] for rollout in rollouts}
    for rollout in rollouts:
        if rollout.is_score_valid and rollout.score is not None:
            rows[rollout.row_index].append(rollout.score)
    return [
        {
            "row_index": row,
            "mean_score": _rounded(mean(scores)) if scores else None,
            "pass_at_1": _rounded(pass_at_k([scores], 1, threshold)),
            "pass_at_8": _rounded(pass_at_k([scores], few, threshold)),
            "valid": len(scores),
        }
        for row, scores in sorted(rows.items())
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
