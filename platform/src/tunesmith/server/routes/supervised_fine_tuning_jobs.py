"""SFT jobs: create, check, find, cancel, resume, delete, and the files of their runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from tunesmith.db import tuning_jobs as table
from tunesmith.db.jobs import request_cancel, request_delete
from tunesmith.db.tables import Job
from tunesmith.schemas.names import account_name, resource_name
from tunesmith.schemas.supervised_fine_tuning_jobs import SftJob, SftJobInput
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.server import tuning_jobs
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.control import Control, ControlPlane, Listing, Reader, Writer
from tunesmith.server.tuning_options import read_sft

KIND = table.SFT
NOUN = table.NOUNS[KIND]
router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}", tags=[NOUN])


@router.post("")
def create(
    account: AccountId,
    body: SftJobInput,
    request: Request,
    control: Control,
    user: CallingUser,
    job_id: Annotated[str | None, Query(alias="supervisedFineTuningJobId")] = None,
) -> dict[str, Any]:
    """Check everything, fill in the defaults, queue the job. The same create under the same id is answered with that job."""
    identity = tuning_jobs.both_ids(job_id, body.job_id, "supervisedFineTuningJobId")
    return sft_job_wire(control, request, tuning_jobs.create(control, KIND, account, identity, read_sft(body), user))


@router.post(":validate")
def validate(account: AccountId, body: SftJobInput, control: Control) -> dict[str, Any]:
    """Check the options of a create before its dataset is there; nothing is kept."""
    tuning_jobs.validate(control, account, read_sft(body))
    return {}


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing, request: Request, control: Control) -> dict[str, Any]:
    """One page of jobs, newest first."""
    rows, token = table.list_tuning_jobs(session, KIND, account_name(account), listing)
    queue = tuning_jobs.queues(control, session, KIND, rows)
    return {NOUN: [sft_job_wire(control, request, row, queue.get(row.name)) for row in rows], "nextPageToken": token}


@router.post("/{job_id}:cancel")
def cancel(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Ask for the job's end; its checkpoints are kept. A finished job stays as it is."""
    request_cancel(session, table.get_tuning_job(session, KIND, _name(account, job_id)).name)
    return {}


@router.post("/{job_id}:resume")
def resume(account: AccountId, job_id: str, request: Request, session: Writer, control: Control) -> dict[str, Any]:
    """Queue a failed job again; it goes on from its last checkpoint."""
    return sft_job_wire(control, request, table.resume_tuning_job(session, KIND, _name(account, job_id)))


@router.get("/{job_id}:getMetricsFileEndpoint")
def get_metrics_file_endpoint(
    account: AccountId, job_id: str, request: Request, session: Reader, control: Control
) -> dict[str, Any]:
    """A signed URL of the metrics, JSONL; it grows while the job runs."""
    job = table.get_tuning_job(session, KIND, _name(account, job_id))
    return tuning_jobs.metrics_endpoint(control, request, job)


@router.get("/{job_id}/files/{filename:path}", include_in_schema=False)
def file(account_id: str, job_id: str, filename: str, request: Request, control: Control) -> Response:
    """One file of the run, by signed URL."""
    return tuning_jobs.read_file(control, KIND, account_id, job_id, filename, request.query_params)


@router.get("/{job_id}")
def get(account: AccountId, job_id: str, request: Request, session: Reader, control: Control) -> dict[str, Any]:
    """One job: state, progress, the values in force, and signed URLs of what it wrote."""
    job = table.get_tuning_job(session, KIND, _name(account, job_id))
    queue = tuning_jobs.queues(control, session, KIND, [job])
    return sft_job_wire(control, request, job, queue.get(job.name))


@router.delete("/{job_id}")
def delete(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Cancel the job if it runs, then remove its files and its row. The model it produced stays."""
    request_delete(session, table.get_tuning_job(session, KIND, _name(account, job_id)).name)
    return {}


def _name(account: str, job: str) -> str:
    return resource_name(account, NOUN, job)


def sft_job_wire(
    control: ControlPlane, request: Request, job: Job, queue: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An SFT job as the API shows it, with its place in the queue where it was looked up."""
    spec = TuningSpec.model_validate(job.spec)
    shown = {**tuning_jobs.common_wire(control, job, spec, queue), **tuning_jobs.training_wire(spec)}
    return SftJob.model_validate({**shown, **tuning_jobs.file_urls(control, request, job)}).dump()
