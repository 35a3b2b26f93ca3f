"""Evaluation jobs: those that are run here, and records of evaluations that ran elsewhere, which no worker takes up."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import false
from sqlalchemy.orm import Session

from tunesmith.db.datasets import READY, UPLOADING
from tunesmith.db.jobs import COMPLETED, FINAL_STATES, enqueue, request_delete
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Dataset, Job
from tunesmith.errors import AlreadyExists, NotFound

KIND = "evaluation"
FIELDS = Fields(
    key=Job.name, order={"name": Job.name, "create_time": Job.created}, filters={"name": Job.name, "state": Job.state}
)


def is_run_here(job: Job) -> bool:
    """Whether this is work of the platform, not a record."""
    return "request" in job.spec


def create_evaluation_job(session: Session, account: str, name: str, spec: dict[str, Any], created_by: str = "") -> Job:
    """Record an evaluation; the same record again is fine. Raises AlreadyExists."""
    job = enqueue(session, name, account, KIND, spec, state=COMPLETED, created_by=created_by)
    if job.spec != spec:
        raise AlreadyExists(f"The evaluation job {name} exists already. Choose another id.")
    job.status = {"code": "OK", "message": ""}
    job.completed = job.completed or job.created
    return job


def find_repeated(session: Session, name: str, request: dict[str, Any]) -> Job | None:
    """The job of that name if it was created by this very request; None when the name is free.

    Raises AlreadyExists when the name is taken by another request, or its job is being deleted.
    """
    job = session.get(Job, name)
    if job is None:
        return None
    if job.delete_requested:
        raise AlreadyExists(f"The evaluation job {name} is being deleted. Choose another id, or wait until it is gone.")
    if job.spec.get("request") != request:
        raise AlreadyExists(f"The evaluation job {name} exists already, with other options. Choose another id.")
    return job


def queue_evaluation_job(session: Session, account: str, name: str, spec: dict[str, Any], created_by: str = "") -> Job:
    """Queue an evaluation under a free name, and announce the dataset that it will write.

    `created_by` is the resource name of the user, if any. Raises AlreadyExists when there is a dataset of that name that this job may not fill.
    """
    _announce_output(session, account, name, spec["output_dataset"])
    return enqueue(session, name, account, KIND, spec, created_by=created_by)


def get_evaluation_job(session: Session, name: str) -> Job:
    """The evaluation job of that resource name. Raises NotFound."""
    job = session.get(Job, name)
    if job is None or job.kind != KIND:
        raise NotFound(f"There is no evaluation job {name}.")
    return job


def delete_evaluation_job(session: Session, name: str) -> None:
    """Remove a record; have a worker cancel and remove one that is run here. Raises NotFound."""
    job = get_evaluation_job(session, name)
    if is_run_here(job):
        request_delete(session, name)
    else:
        session.delete(job)


def forget_output(session: Session, job: str, dataset: str) -> None:
    """Remove the dataset that a job announced and never wrote."""
    row = session.get(Dataset, dataset)
    if row is not None and row.state == UPLOADING and _maker(row) == job:
        session.delete(row)


def list_evaluation_jobs(session: Session, account: str, query: ListQuery) -> tuple[list[Job], str]:
    """One page of an account's evaluation jobs and the token of the next, without those that are being deleted."""
    conditions = [Job.account == account, Job.kind == KIND, Job.delete_requested == false()]
    return page(session, Job, conditions, FIELDS, query)


def _announce_output(session: Session, account: str, job: str, dataset: str) -> None:
    made_by = {"evaluationResult": {"evaluationJobId": job}, "sourceJobName": job}
    row = session.get(Dataset, dataset)
    if row is None:
        row = Dataset(name=dataset, account=account, spec={}, state=UPLOADING, example_count=0)
        session.add(row)
    maker = session.get(Job, _maker(row)) if _maker(row) else None
    taken = maker is not None and maker.name != job and maker.state not in FINAL_STATES
    if row.state == READY or row.spec.get("pendingUpload") or taken:
        owner = f", written by {maker.name}" if taken and maker is not None else ", with other content"
        raise AlreadyExists(f"outputDataset: {dataset} exists already{owner}. Name a new dataset for the results.")
    row.spec = {**row.spec, "format": "CHAT", "evalProtocol": {}, **made_by}
    row.status = {"code": "OK", "message": f"Waiting for the results of {job}."}
    row.updated = time.time()


def _maker(dataset: Dataset) -> str | None:
    return (dataset.spec.get("evaluationResult") or {}).get("evaluationJobId")
