"""SFT and DPO jobs, seen from the control plane: created once per name, listed, found, resumed. The queue itself is `db.jobs`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import false
from sqlalchemy.orm import Session

from tunesmith.db.jobs import CANCELLED, COMPLETED, FAILED, FINAL_STATES, PAUSED, enqueue
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.resuming import check_output_free, requeue
from tunesmith.db.tables import Job
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound

SFT = "sft"
DPO = "dpo"
NOUNS = {SFT: "supervisedFineTuningJobs", DPO: "dpoJobs"}
"""Kind of job -> its collection."""
TRAINING_NOUNS = ("reinforcementFineTuningJobs", *NOUNS.values())
"""Jobs of these collections have a run directory under their short id, so no two of them may share one."""
FIELDS = Fields(
    key=Job.name,
    order={"name": Job.name, "create_time": Job.created},
    filters={
        "name": Job.name,
        "state": Job.state,
        "display_name": Job.spec["request"]["displayName"].as_string(),
        "dataset": Job.spec["dataset"].as_string(),
        "base_model": Job.spec["base_model"].as_string(),
        "output_model": Job.spec["output_model"].as_string(),
    },
)


def find_repeated(session: Session, kind: str, name: str, request: dict[str, Any]) -> Job | None:
    """The job of that name if it was created by this very request; None when the name is free.

    Raises AlreadyExists when the name is taken by another request, or its id by a training job of another kind.
    """
    job = session.get(Job, name)
    if job is None:
        check_id_unused(session, name)
        return None
    if job.delete_requested:
        raise AlreadyExists(f"The job {name} is being deleted. Choose another id, or wait until it is gone.")
    if job.kind != kind or job.spec.get("request") != request:
        raise AlreadyExists(
            f"The job {name} exists already, with other options. Choose another id, or leave the id out."
        )
    return job


def check_id_unused(session: Session, name: str) -> None:
    """Refuse the id of a training job of another kind. Raises AlreadyExists."""
    account, noun, identity = name.rsplit("/", 2)
    for other in TRAINING_NOUNS:
        taken = f"{account}/{other}/{identity}"
        if other != noun and session.get(Job, taken) is not None:
            raise AlreadyExists(f"The id {identity} is that of {taken}. Choose another id for {name}.")


def create_tuning_job(
    session: Session, kind: str, account: str, name: str, spec: dict[str, Any], notes: list[Any], created_by: str = ""
) -> Job:
    """Queue a job under a free name; `created_by` is the resource name of the user, if any."""
    return enqueue(session, name, account, kind, spec, notes=notes, created_by=created_by)


def get_tuning_job(session: Session, kind: str, name: str) -> Job:
    """The SFT or DPO job of that resource name. Raises NotFound."""
    job = session.get(Job, name)
    if job is None or job.kind != kind:
        raise NotFound(f"There is no {kind.upper()} job {name}.")
    return job


def list_tuning_jobs(session: Session, kind: str, account: str, query: ListQuery) -> tuple[list[Job], str]:
    """One page of an account's SFT or DPO jobs, newest first, without those that are being deleted."""
    conditions = [Job.account == account, Job.kind == kind, Job.delete_requested == false()]
    return page(session, Job, conditions, FIELDS, query)


def resume_tuning_job(session: Session, kind: str, name: str) -> Job:
    """Queue a failed (or paused) job again; it goes on from its last checkpoint. One that is not over is left as it is.

    Raises NotFound, FailedPrecondition when it ended otherwise or is being deleted.
    """
    job = get_tuning_job(session, kind, name)
    if job.delete_requested:
        raise FailedPrecondition(f"The job {name} is being deleted.")
    if job.state not in FINAL_STATES | {PAUSED}:
        return job
    if job.state not in (FAILED, PAUSED):
        what = {COMPLETED: "has completed", CANCELLED: "was cancelled, which is final"}.get(job.state, "has ended")
        raise FailedPrecondition(
            f"The job {name} {what}; only a FAILED job can be resumed. Create a new job to train again."
        )
    check_output_free(session, job)
    requeue(session, job, (FAILED, PAUSED), "Resumed; it goes on from its last checkpoint.")
    return job
