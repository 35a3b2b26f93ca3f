"""What an evaluator scored: the evaluations and RFT jobs that ran with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from tunesmith.db.tables import Job, Rollout

MOST = 200


def results_of(session: Session, evaluator: str) -> list[dict[str, Any]]:
    """Results of an evaluator (resource name), newest first, at most `MOST`: fields of `schemas.EvaluatorResult`."""
    query = select(Job).where(
        Job.account == "/".join(evaluator.split("/")[:2]),
        Job.kind.in_(["evaluation", "rft"]),
        Job.spec["evaluator"].as_string() == evaluator,
        Job.spec["evaluator_version"].as_integer().is_not(None),  # not the record of an evaluation that ran elsewhere
    )
    jobs = session.scalars(query.order_by(Job.created.desc()).limit(MOST)).all()
    scored = _scored(session, [job.name for job in jobs if job.kind == "rft"])
    return [_evaluation(job) if job.kind == "evaluation" else _training(job, scored) for job in jobs]


def _evaluation(job: Job) -> dict[str, Any]:
    metrics = job.progress.get("metrics") or {}
    rows = metrics.get("rows") or job.progress.get("scored") or 0
    figures = {"mean_score": metrics.get("score"), "rollouts": rows, "invalid": metrics.get("invalid") or 0}
    return {**_common(job), "kind": "evaluation", "model": job.spec.get("model"), **figures}


def _training(job: Job, scored: dict[str, tuple[float | None, int, int]]) -> dict[str, Any]:
    mean, rollouts, invalid = scored.get(job.name, (None, 0, 0))
    figures = {"mean_score": mean, "rollouts": rollouts, "invalid": invalid}
    return {**_common(job), "kind": "rft", "model": job.spec.get("output_model"), **figures}


def _common(job: Job) -> dict[str, Any]:
    moment = job.completed or job.started or job.created
    return {"job": job.name, "evaluator_version": job.spec["evaluator_version"], "time": moment}


def _scored(session: Session, jobs: list[str]) -> dict[str, tuple[float | None, int, int]]:
    """By RFT job: mean over valid scores, rollouts, and invalid ones."""
    valid = case((Rollout.is_score_valid, Rollout.score))
    invalid = func.sum(case((Rollout.is_score_valid, 0), else_=1))
    query = select(Rollout.job, func.avg(valid), func.count(), invalid).where(Rollout.job.in_(jobs))
    return {job: (mean, count, bad) for job, mean, count, bad in session.execute(query.group_by(Rollout.job))}
