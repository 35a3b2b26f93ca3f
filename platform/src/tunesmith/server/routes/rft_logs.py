"""The log of an RFT job: what its processes wrote, what agents posted, and what happened to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.schemas.job_logs import LogLine
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Reader
from tunesmith.server.job_logs import LogQuery, last_lines, read_lines, windows_of
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])

DEFAULT_LINES = 500
MOST_LINES = 5000
Source = Literal["orchestrator", "learner", "evaluator-host", "agent", "job"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@router.get("/logs")
def logs(
    account: AccountId,
    job_id: str,
    session: Reader,
    control: Control,
    source: Source | None = None,
    level: Level | None = None,
    contains: str = "",
    rollout_id: Annotated[str | None, Query(alias="rolloutId")] = None,
    epoch: Annotated[int | None, Query(ge=0)] = None,
    step: Annotated[int | None, Query(ge=0)] = None,
    page_size: Annotated[int, Query(alias="pageSize", ge=0)] = 0,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
    tail: Annotated[int | None, Query(ge=1, le=MOST_LINES)] = None,
) -> dict[str, Any]:
    """One page of log lines, oldest first. `level` means that and above; `step` and `epoch` the time in which they went on; `tail`
    the last so many. The position of any line is a `pageToken`, with which the log goes on behind it, also at its end."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    windows = None if step is None and epoch is None else windows_of(session, job.name, step, epoch)
    query = LogQuery(source, level, contains, rollout_id, windows)
    if tail is not None:
        return {"lines": _wire(last_lines(control, job, count=tail, query=query)), "nextPageToken": ""}
    limit = min(page_size or DEFAULT_LINES, MOST_LINES)
    lines, position = read_lines(control, job, position=page_token, limit=limit, query=query)
    more = read_lines(control, job, position=position, limit=1)[0]
    return {"lines": _wire(lines), "nextPageToken": position if more else ""}


def _wire(lines: list[LogLine]) -> list[dict[str, Any]]:
    return [line.model_dump(mode="json", by_alias=True) for line in lines]
