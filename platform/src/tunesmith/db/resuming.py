"""A job that ended in failure goes back into the queue. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from tunesmith.db.jobs import PENDING
from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.tables import Job, Model
from tunesmith.errors import FailedPrecondition


def check_output_free(session: Session, job: Job) -> None:
    """Raise FailedPrecondition when the model that a job was to make was made, or is being made, by somebody else since."""
    output = str(job.spec.get("output_model"))
    model = session.get(Model, output)
    if model is not None and model.job != job.name:
        raise FailedPrecondition(
            f"The job {job.name} cannot be resumed: the model {model.name} that it was to make was made by {model.job or 'hand'} "
            "since. Delete that model first, or create a new job."
        )
    makers = running_jobs_using(session, job.account, output, ("output_model",))
    if set(makers) - {job.name}:
        raise FailedPrecondition(
            f"The job {job.name} cannot be resumed: {makers[0]} is making the model {output} now. Cancel that job "
            "first, or create a new one."
        )


def requeue(session: Session, job: Job, states: Sequence[str], message: str, **values: Any) -> None:
    """Queue a job in one of these states again, its attempts counted anew; `values` are further columns. Refreshes the row."""
    changes = {
        "state": PENDING,
        "status": {"code": "OK", "message": message},
        "completed": None,
        "attempts": 0,
        "cancel_requested": False,
        "lease_owner": None,
        "lease_expires": None,
        **values,
    }
    statement = update(Job).where(Job.name == job.name, Job.state.in_(states)).values(**changes)
    session.execute(statement.execution_options(synchronize_session=False))
    session.refresh(job)
