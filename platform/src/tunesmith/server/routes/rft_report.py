"""`run.html`: an RFT job in one self-contained file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.session import reading
from tunesmith.schemas.names import resource_name, short_id
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN
from tunesmith.server.run_report import run_data, run_page

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])


@router.get("/report")
def report(
    account: AccountId, job_id: str, control: Control, rollouts: Annotated[int, Query(ge=0, le=5000)] = 300
) -> StreamingResponse:
    """The job's steps, tokens and at most `rollouts` rollouts as one HTML file that fetches nothing."""
    name = resource_name(account, NOUN, job_id)
    with reading(control.sessions) as session:
        job = get_rft_job(session, name)
        session.expunge(job)
    identity = short_id(name)
    page = run_page(run_data(control, name, job, rollouts), f"{identity}: a Tunesmith run")
    headers = {
        "content-disposition": f'attachment; filename="{identity}.html"',
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return StreamingResponse(page, media_type="text/html; charset=utf-8", headers=headers)
