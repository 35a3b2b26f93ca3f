"""Download what an RFT job has done."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.session import reading
from tunesmith.schemas.names import resource_name, short_id
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control
from tunesmith.server.job_export import MEDIA, export
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])


@router.get("/export")
def download(
    account: AccountId,
    job_id: str,
    control: Control,
    what: Literal["rollouts", "metrics"] = "rollouts",
    format: Literal["jsonl", "csv", "json"] = "jsonl",
) -> StreamingResponse:
    """Rollouts (with their rows, in CSV without) or metrics (a record per chunk, with its optimizer step's figures), streamed."""
    with reading(control.sessions) as session:
        job = get_rft_job(session, resource_name(account, NOUN, job_id)).name
    headers = {
        "content-disposition": f'attachment; filename="{short_id(job)}-{what}.{format}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(export(control, job, what, format), media_type=MEDIA[format], headers=headers)
