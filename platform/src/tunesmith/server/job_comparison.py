"""Several RFT jobs side by side: their curves, what they took, and the options in which they differ."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.rollouts import list_events, token_totals
from tunesmith.db.tables import Job

_COMPARED = (
    "dataset",
    "evaluationDataset",
    "evalAutoCarveout",
    "evaluator",
    "evaluatorVersion",
    "chunkSize",
    "maxConcurrentRollouts",
    "maxStaleness",
    "evaluationEverySteps",
    "rewoundFrom",
    "rewoundTo",
    "trainingConfig",
    "inferenceParameters",
    "lossConfig",
)
_NOT_COMPARED = {"trainingConfig.outputModel"}
"""Each job has its own."""


def comparison(session: Session, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> dict[str, Any]:
    """The answer of `:compare`.

    Args:
        session: to read metrics.
        jobs: each with what the API shows of it.
    """
    return {
        "jobs": [_shown(session, job, wire) for job, wire in jobs],
        "differences": differences([wire for _, wire in jobs]),
    }


def differences(wires: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Options that are not the same in all jobs, by their dotted names, with the value of each; null where one has none."""
    flat = [_flat({name: wire.get(name) for name in _COMPARED}) for wire in wires]
    names = [name for name in dict.fromkeys(name for each in flat for name in each) if name not in _NOT_COMPARED]
    rows = [{"field": name, "values": [each.get(name) for each in flat]} for name in names]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def _shown(session: Session, job: Job, wire: Mapping[str, Any]) -> dict[str, Any]:
    events = [event.record for event in list_events(session, job.name, "events.jsonl")]
    sampled, trained = token_totals(session, job.name)
    run = job.progress.get("run") or {}
    seconds = (job.completed or time.time()) - job.started if job.started is not None else 0.0
    return {
        "job": wire,
        "curve": [
            {"step": event["step"], "chunk": event["chunk"], "meanScore": event["mean_score"]}
            for event in events
            if event.get("kind") == "chunk"
        ],
        "heldOut": [
            {"step": event["step"], "score": event["score"], "low": event["low"], "high": event["high"]}
            for event in events
            if event.get("kind") == "evaluation"
        ],
        "seconds": round(seconds, 1),
        "trainedTokens": trained,
        "sampledTokens": sampled,
        "cost": {"amount": run["cost"], "currency": run["currency"]} if "cost" in run else None,
    }


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = value
    return found
