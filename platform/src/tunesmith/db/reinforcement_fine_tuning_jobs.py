"""RFT jobs, seen from the control plane: created once per name, listed, found. The queue itself is `db.jobs`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import false
from sqlalchemy.orm import Session

from tunesmith.db.jobs import enqueue
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Job
from tunesmith.errors import AlreadyExists, NotFound

KIND = "rft"
FIELDS = Fields(
    key=Job.name,
    order={"name": Job.name, "create_time": Job.created},
    filters={
        "name": Job.name,
        "state": Job.state,
        "display_name": Job.spec["request"]["displayName"].as_string(),
        "dataset": Job.spec["dataset"].as_string(),
        "evaluator": Job.spec["evaluator"].as_string(),
    },
)


def find_repeated(session: Session, name: str, request: dict[str, Any]) -> Job | None:
    """The job of that name if it was created by this very request; None when the name is free.

    Raises AlreadyExists when the name is taken by another request.
    """
    job = session.get(Job, name)
    if job is None:
        return None
    if job.delete_requested:
        raise AlreadyExists(f"The job {name} is being deleted. Choose another id, or wait until it is gone.")
    if job.kind != KIND or job.spec.get("request") != request:
        raise AlreadyExists(
            f"The job {name} exists already, with other options. Choose another id, or leave the id out."
        )
    return job


def create_rft_job(session: Session, account: str, name: str, spec: dict[str, Any], notes: list[Any]) -> Job:
    """Queue an RFT job under a free name."""
    return enqueue(session, name, account, KIND, spec, notes=notes)


def get_rft_job(session: Session, name: str) -> Job:
    """The RFT job of that resource name. Raises NotFound."""
    job = session.get(Job, name)
    if job is None or job.kind != KIND:
        raise NotFound(f"There is no RFT job {name}.")
    return job


def list_rft_jobs(session: Session, account: str, query: ListQuery) -> tuple[list[Job], str]:
    """One page of an account's RFT jobs, newest first, without those that are being deleted."""
    conditions = [Job.account == account, Job.kind == KIND, Job.delete_requested == false()]
    return page(session, Job, conditions, FIELDS, query)
