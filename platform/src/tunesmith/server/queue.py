"""What the API says of jobs that wait: their place, and what has to happen before they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.jobs import PENDING
from tunesmith.db.queue import places, running_jobs
from tunesmith.db.tables import Job
from tunesmith.schemas.names import short_id


def queue_places(session: Session, kind: str, jobs: Sequence[Job], most: int) -> dict[str, dict[str, Any]]:
    """`{"position", "waitingFor"}` of those of `jobs` (of one kind) that wait for a worker, by name.

    Args:
        most: jobs of that kind that run at a time (a setting).
    """
    if not any(job.state == PENDING and job.lease_owner is None for job in jobs):
        return {}
    order, running = places(session, kind), running_jobs(session, kind)
    return {
        job.name: {"position": order[job.name], "waitingFor": _reason(job, order[job.name], running, most)}
        for job in jobs
        if job.name in order
    }


def _reason(job: Job, position: int, running: Sequence[Job], most: int) -> str:
    if job.waiting_for:
        return job.waiting_for
    if position > 1:
        return f"Waits for its turn: {position - 1} before it."
    if len(running) >= most:
        names = ", ".join(
            short_id(each.name) if each.account == job.account else "a job of another account" for each in running
        )
        return f"Waits for a place: {most} at a time, and {names} {'runs' if len(running) == 1 else 'run'}."
    return "Waits for a worker, which looks every half second."
