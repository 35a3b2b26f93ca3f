"""Download one optimizer step of an RFT job, complete enough to be computed again without the platform."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.session import reading
from tunesmith.jobs.retention import check_not_removed
from tunesmith.runs.step_export import open_step, pieces
from tunesmith.schemas.names import resource_name, short_id
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])


@router.get(":exportStep")
def download_step(
    account: AccountId,
    job_id: str,
    control: Control,
    step: Annotated[int, Query(ge=0, description="Step K leads from policy version K to K + 1.")],
) -> StreamingResponse:
    """Sealed batch, adapters before and after, optimizer state, settings and hashes of step K: a tar archive, streamed."""
    with reading(control.sessions) as session:
        row = get_rft_job(session, resource_name(account, NOUN, job_id))
        check_not_removed(row, "exported")
        job = short_id(row.name)
    export = open_step(control.settings.run_dir(job), step)
    headers = {"content-disposition": f'attachment; filename="{export.folder}.tar"', "cache-control": "no-store"}
    return StreamingResponse(pieces(export), media_type="application/x-tar", headers=headers)
