"""RFT jobs, seen from the control plane: created once per name, listed, found. The queue itself is `db.jobs`."""

from __future__ import annotations

import re
import time
from typing import Any

from sqlalchemy import and_, false, select
from sqlalchemy.orm import Session

from tunesmith.db.jobs import CANCELLED, FAILED, FINAL_STATES, enqueue
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.resuming import check_output_free, requeue
from tunesmith.db.tables import Job, Model, Policy
from tunesmith.db.tuning_jobs import check_id_unused
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound

KIND, NOUN = "rft", "reinforcementFineTuningJobs"
_POLICY = re.compile(r"accounts/[^/]+/models/(?P<job>[^/]+)-v\d+")
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

    Raises AlreadyExists when the name is taken by another request, by the records of a deleted job (its rollouts and policy
    versions would be taken for those of the new one), or by models that are called as its policy versions would be.
    """
    job = session.get(Job, name)
    if job is None:
        _check_unused(session, name)
        return None
    if job.delete_requested:
        raise AlreadyExists(f"The job {name} is being deleted. Choose another id, or wait until it is gone.")
    if job.kind != KIND or job.spec.get("request") != request:
        raise AlreadyExists(
            f"The job {name} exists already, with other options. Choose another id, or leave the id out."
        )
    return job


def check_id_for(session: Session, name: str, request: dict[str, Any]) -> Job | None:
    """The job of that name if this request may be the one that created it, though its rows and evaluator are not uploaded yet; None when
    the name is free.

    Raises AlreadyExists as `find_repeated` will.
    """
    job = session.get(Job, name)
    made = job.spec.get("request", {}) if job is not None else {}
    uploads = {field: made[field] for field in ("dataset", "evaluator", "evaluationDataset") if field in made}
    return find_repeated(session, name, {**request, **uploads})


def check_free(session: Session, name: str) -> None:
    """Raise AlreadyExists when a job has, or had, that name, or models are called as its policy versions would be."""
    if session.get(Job, name) is not None:
        raise AlreadyExists(f"The job {name} exists already. Choose another id, or leave the id out.")
    _check_unused(session, name)


def policy_job(model: str) -> str | None:
    """Id of the job whose policy version a model of that name would be; None when it is no such name."""
    match = _POLICY.fullmatch(model)
    return match["job"] if match else None


def policy_owner(session: Session, account: str, model: str) -> str | None:
    """Id of the job that has, had or may publish a policy version of that name."""
    job = policy_job(model)
    if job is None:
        return None
    known = session.get(Job, f"{account}/reinforcementFineTuningJobs/{job}") or session.get(Policy, model)
    return job if known is not None else None


def create_rft_job(
    session: Session, account: str, name: str, spec: dict[str, Any], notes: list[Any], created_by: str = ""
) -> Job:
    """Queue an RFT job under a free name; `created_by` is the resource name of the user, if any."""
    return enqueue(session, name, account, KIND, spec, notes=notes, created_by=created_by)


def _check_unused(session: Session, name: str) -> None:
    check_id_unused(session, name)
    account, job = name.rsplit("/", 2)[0], name.rsplit("/", 1)[1]
    if session.scalar(select(Policy.name).where(Policy.account == account, Policy.job == job).limit(1)) is not None:
        raise AlreadyExists(
            f"The id of {name} belonged to a job that was deleted; its recorded model calls are kept. Choose another id."
        )
    prefix = f"{account}/models/{job}-v"
    models = [*session.scalars(select(Model.name).where(Model.name.startswith(prefix, autoescape=True)))]
    output = Job.spec["output_model"].as_string()
    unfinished = and_(Job.account == account, Job.state.not_in(FINAL_STATES))
    models += session.scalars(select(output).where(unfinished, output.startswith(prefix, autoescape=True)))
    for model in models:
        if policy_job(model) == job:
            raise AlreadyExists(
                f"The policy versions of {name} would be called as the model {model} is. Choose another job id."
            )


def get_rft_job(session: Session, name: str) -> Job:
    """The RFT job of that resource name. Raises NotFound."""
    job = session.get(Job, name)
    if job is None or job.kind != KIND:
        raise NotFound(f"There is no RFT job {name}.")
    return job


def resume_rft_job(session: Session, name: str) -> Job:
    """Queue a failed job again; it goes on from its run directory. When is in its progress (`resumed`, Unix seconds).

    Raises NotFound, FailedPrecondition (with what to do instead) when it has not failed or is being deleted.
    """
    job = get_rft_job(session, name)
    if job.delete_requested:
        raise FailedPrecondition(f"The job {name} is being deleted; it cannot be resumed.")
    if job.state not in FINAL_STATES:
        raise FailedPrecondition(f"The job {name} has not ended ({_plain(job.state)}); there is nothing to resume.")
    if job.state != FAILED:
        what = {CANCELLED: "was cancelled, which is final"}.get(job.state, f"has ended ({_plain(job.state)})")
        raise FailedPrecondition(
            f"The job {name} {what}; only a FAILED job can be resumed. Clone it to train again with the same options."
        )
    check_output_free(session, job)
    message = "Resumed; it goes on where it failed, and rolls out again what had no valid score."
    requeue(session, job, (FAILED,), message, progress={**job.progress, "resumed": time.time()})
    return job


def _plain(state: str) -> str:
    return state.removeprefix("JOB_STATE_")


def list_rft_jobs(session: Session, account: str, query: ListQuery) -> tuple[list[Job], str]:
    """One page of an account's RFT jobs, newest first, without those that are being deleted."""
    conditions = [Job.account == account, Job.kind == KIND, Job.delete_requested == false()]
    return page(session, Job, conditions, FIELDS, query)
