"""Evaluation jobs: records of evaluations that ran elsewhere. They are kept as finished jobs; no worker takes them up."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.jobs import COMPLETED, enqueue, get
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Job
from tunesmith.errors import AlreadyExists, NotFound

KIND = "evaluation"
FIELDS = Fields(
    key=Job.name, order={"name": Job.name, "create_time": Job.created}, filters={"name": Job.name, "state": Job.state}
)


def create_evaluation_job(session: Session, account: str, name: str, spec: dict[str, Any]) -> Job:
    """Record an evaluation; the same record again is fine. Raises AlreadyExists."""
    job = enqueue(session, name, account, KIND, spec, state=COMPLETED)
    if job.spec != spec:
        raise AlreadyExists(f"The evaluation job {name} exists already. Choose another id.")
    job.status = {"code": "OK", "message": ""}
    job.completed = job.completed or job.created
    return job


def get_evaluation_job(session: Session, name: str) -> Job:
    """The evaluation job of that resource name. Raises NotFound."""
    job = get(session, name)
    if job.kind != KIND:
        raise NotFound(f"There is no evaluation job {name}.")
    return job


def delete_evaluation_job(session: Session, name: str) -> None:
    """Remove the record. Raises NotFound."""
    session.delete(get_evaluation_job(session, name))


def list_evaluation_jobs(session: Session, account: str, query: ListQuery) -> tuple[list[Job], str]:
    """One page of an account's evaluation jobs and the token of the next."""
    return page(session, Job, [Job.account == account, Job.kind == KIND], FIELDS, query)
