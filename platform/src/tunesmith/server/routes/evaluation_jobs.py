"""Evaluation jobs: rows scored here by an evaluator, and what published clients leave here after a local evaluation."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter

from tunesmith.db import evaluation_jobs as table
from tunesmith.db.jobs import request_cancel
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.schemas.evaluation_jobs import EvaluationJob, EvaluationJobCreate, EvaluationJobInput, Scoring
from tunesmith.schemas.names import account_name, check_id, check_job_id, resource_name, short_id
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane, Listing, Reader, Writer
from tunesmith.server.evaluation_plan import answering, plan_evaluation
from tunesmith.server.job_notes import sandbox_notes
from tunesmith.server.queue import queue_places

router = APIRouter(prefix="/v1/accounts/{account_id}/evaluationJobs", tags=["evaluationJobs"])


@router.post("")
def create(account: AccountId, body: EvaluationJobCreate, control: Control, user: CallingUser) -> dict[str, Any]:
    """Queue an evaluation that says how to score (`scoring`); else record one, its references kept as they are, `…/dummy` included."""
    name = _name(account, body.evaluation_job_id or f"evaluation-{secrets.token_hex(5)}")
    wanted = body.evaluation_job
    if wanted.scoring is not None:
        check_job_id(short_id(name), "evaluationJobId")
        return _queue(control, account, name, wanted, wanted.scoring, user)
    check_id(short_id(name), "evaluationJobId")
    with control.sessions.begin() as session:
        job = table.create_evaluation_job(session, account_name(account), name, wanted.given(), user)
        return evaluation_job_wire(job)


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing, control: Control) -> dict[str, Any]:
    """One page of evaluation jobs, newest first."""
    rows, token = table.list_evaluation_jobs(session, account_name(account), listing)
    queue = queue_places(session, table.KIND, rows, control.settings.concurrent_evaluations)
    return {"evaluationJobs": [evaluation_job_wire(row, queue.get(row.name)) for row in rows], "nextPageToken": token}


@router.post("/{job_id}:cancel")
def cancel(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Ask for the job's end; rows that were scored are kept until it is deleted. A finished job stays as it is."""
    request_cancel(session, table.get_evaluation_job(session, _name(account, job_id)).name)
    return {}


@router.get("/{job_id}")
def get(account: AccountId, job_id: str, session: Reader, control: Control) -> dict[str, Any]:
    """One evaluation job."""
    job = table.get_evaluation_job(session, _name(account, job_id))
    queue = queue_places(session, table.KIND, [job], control.settings.concurrent_evaluations)
    return evaluation_job_wire(job, queue.get(job.name))


@router.delete("/{job_id}")
def delete(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Cancel the job if it runs, then remove its files and its row. The dataset that it wrote stays."""
    table.delete_evaluation_job(session, _name(account, job_id))
    return {}


def _queue(
    control: ControlPlane, account: str, name: str, wanted: EvaluationJobInput, scoring: Scoring, user: str
) -> dict[str, Any]:
    """The same create under the same id is answered with that job."""
    request = wanted.given()
    with reading(control.sessions) as session:
        repeated = table.find_repeated(session, name, request)
        if repeated is not None:
            return evaluation_job_wire(repeated)
        who = answering(session, account, scoring)
    base = find_base_model(who.base, control.settings, account) if who.base else None  # may ask the hub
    with control.sessions.begin() as session:
        repeated = table.find_repeated(session, name, request)
        if repeated is not None:
            return evaluation_job_wire(repeated)
        spec = plan_evaluation(session, account, wanted, scoring, who, base)
        job = table.queue_evaluation_job(session, account_name(account), name, spec.model_dump(mode="json"), user)
        session.flush()
        return evaluation_job_wire(job)


def _name(account: str, job: str) -> str:
    return resource_name(account, "evaluationJobs", job)


def evaluation_job_wire(job: Job, queue: dict[str, Any] | None = None) -> dict[str, Any]:
    """An evaluation job as the API shows it, with its place in the queue where it was looked up."""
    run_here = table.is_run_here(job)
    shown: dict[str, Any] = dict(job.spec["request"] if run_here else job.spec)
    if run_here:
        progress = dict(job.progress)
        sandbox = progress.pop("sandbox", None)
        shown |= {
            "evaluator": job.spec["evaluator"],
            "inputDataset": job.spec["dataset"],
            "outputDataset": job.spec["output_dataset"],
            "completedTime": job.completed,
            "metrics": progress.pop("metrics", None),
            "sandbox": sandbox,
            "notes": sandbox_notes(sandbox),
            "jobProgress": progress,
        }
    updated = job.completed or job.started or job.created
    times = {"createTime": job.created, "updateTime": updated}
    status = job.status or {"code": "OK", "message": ""}
    return EvaluationJob.model_validate(
        {
            **shown,
            "name": job.name,
            "state": job.state,
            "status": status,
            "queue": queue,
            "createdBy": job.created_by,
            **times,
        }
    ).dump()
