"""Compare several RFT jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Reader
from tunesmith.server.job_comparison import comparison
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, rft_job_wire

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}", tags=[NOUN])

FEWEST, MOST = 2, 8


@router.get(":compare")
def compare(account: AccountId, session: Reader, job: Annotated[list[str], Query()] = []) -> dict[str, Any]:  # noqa: B006 - FastAPI copies it
    """Two to eight jobs (`job=`, ids or names): curves, held-out scores, time, tokens, cost, and the options in which they differ."""
    names = list(dict.fromkeys(resource_name(account, NOUN, each) for each in job))
    if not FEWEST <= len(names) <= MOST:
        raise InvalidArgument(
            f"job: {len(names)} different jobs are given; {FEWEST} to {MOST} can be compared. Repeat job= for each."
        )
    found = [get_rft_job(session, name) for name in names]
    return comparison(session, [(each, rft_job_wire(each)) for each in found])
