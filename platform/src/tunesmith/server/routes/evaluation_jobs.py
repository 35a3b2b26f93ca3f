"""Evaluation jobs: what published clients leave here after a local evaluation, next to the dataset of its results."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter

from tunesmith.db import evaluation_jobs as table
from tunesmith.db.tables import Job
from tunesmith.schemas.evaluation_jobs import EvaluationJob, EvaluationJobCreate
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/evaluationJobs", tags=["evaluationJobs"])


@router.post("")
def create(account: AccountId, body: EvaluationJobCreate, session: Writer) -> dict[str, Any]:
    """Record an evaluation. Its references are kept as they are, `…/dummy` included."""
    name = _name(account, body.evaluation_job_id or f"evaluation-{secrets.token_hex(5)}")
    check_id(short_id(name), "evaluationJobId")
    return _wire(table.create_evaluation_job(session, account_name(account), name, body.evaluation_job.given()))


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of evaluation jobs, newest first."""
    rows, token = table.list_evaluation_jobs(session, account_name(account), listing)
    return {"evaluationJobs": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{job_id}")
def get(account: AccountId, job_id: str, session: Reader) -> dict[str, Any]:
    """One evaluation job."""
    return _wire(table.get_evaluation_job(session, _name(account, job_id)))


@router.delete("/{job_id}")
def delete(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Remove the record."""
    table.delete_evaluation_job(session, _name(account, job_id))
    return {}


def _name(account: str, job: str) -> str:
    return resource_name(account, "evaluationJobs", job)


def _wire(job: Job) -> dict[str, Any]:
    times = {"createTime": job.created, "updateTime": job.completed or job.created}
    return EvaluationJob.model_validate(
        {**job.spec, "name": job.name, "state": job.state, "status": job.status, **times}
    ).dump()
