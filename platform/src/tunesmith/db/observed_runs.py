"""What earlier RFT jobs on a base model took: lengths and speed, from which a new one is estimated. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunesmith.db.rollouts import list_events, token_totals
from tunesmith.db.tables import Job, Rollout

RECENT = 5
"""Jobs that are looked at: older ones may be of another machine."""


@dataclass(frozen=True)
class ObservedRun:
    """One RFT job that took at least one step."""

    job: str
    evaluator: str
    sampled_mean: float
    """Sampled tokens of a rollout."""
    turns_mean: float
    """Model calls of a rollout."""
    trained_share: float
    """Trained tokens over sampled ones."""
    sampled_per_second: float
    """Sampled tokens over wall time, training, publishing and evaluation included."""


def observed_runs(session: Session, account: str, base_model: str, limit: int = RECENT) -> list[ObservedRun]:
    """The latest RFT jobs of an account (resource name) on a base model, newest first."""
    mine = (Job.account == account, Job.kind == "rft", Job.spec["base_model"].as_string() == base_model)
    jobs: Sequence[Job] = session.scalars(select(Job).where(*mine).order_by(Job.created.desc()).limit(4 * limit)).all()
    found: list[ObservedRun] = []
    for job in jobs:
        if len(found) < limit and (run := _observed(session, job)) is not None:
            found.append(run)
    return found


def _observed(session: Session, job: Job) -> ObservedRun | None:
    chunks = [
        event.record for event in list_events(session, job.name, "events.jsonl") if event.record.get("kind") == "chunk"
    ]
    means = select(func.avg(Rollout.completion_tokens), func.avg(Rollout.turns), func.count(Rollout.completion_tokens))
    tokens, turns, counted = session.execute(means.where(Rollout.job == job.name, Rollout.kind == "train")).one()
    sampled, trained = token_totals(session, job.name)
    if not chunks or not counted or not sampled:
        return None
    seconds = chunks[-1]["time"] - chunks[0]["time"] + chunks[0]["seconds"]
    if seconds <= 0:
        return None
    evaluator = str(job.spec.get("evaluator"))
    return ObservedRun(job.name, evaluator, float(tokens), float(turns or 1), trained / sampled, sampled / seconds)
