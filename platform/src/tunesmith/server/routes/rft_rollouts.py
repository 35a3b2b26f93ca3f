"""The rollouts of an RFT job: pages of them, and one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.rollout_calls import calls_of_rollout
from tunesmith.db.rollout_pages import (
    RolloutFilter,
    get_rollout,
    group_of,
    history_of,
    page_of_rollouts,
    statuses,
)
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Rollout
from tunesmith.errors import TunesmithError
from tunesmith.rendering.vocabulary import Vocabulary
from tunesmith.schemas.names import resource_name, short_id
from tunesmith.schemas.rollouts import RolloutRecord, RolloutSummary
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, ControlPlane, Listing, Reader
from tunesmith.server.render_preview import find_entry, loaded_renderer
from tunesmith.server.rollout_tokens import token_turns
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}/rollouts", tags=[NOUN])


@router.get("")
def rollouts(
    account: AccountId,
    job_id: str,
    session: Reader,
    listing: Listing,
    step: Annotated[int | None, Query(ge=0)] = None,
    epoch: Annotated[int | None, Query(ge=0)] = None,
    kind: Literal["train", "evaluation", "preflight", "baseline"] | None = None,
    row_index: Annotated[int | None, Query(alias="rowIndex", ge=0)] = None,
    valid: bool | None = None,
    min_score: Annotated[float | None, Query(alias="minScore")] = None,
    max_score: Annotated[float | None, Query(alias="maxScore")] = None,
    contains: str = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    view: Literal["FULL", "SUMMARY"] = "FULL",
) -> dict[str, Any]:
    """One page of rollouts, in the order of their arrival unless `orderBy` says otherwise. `contains` looks at reason, prompt and
    answer; `view=SUMMARY` leaves the rows out; `totalSize` is how many match."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    wanted = RolloutFilter(step, epoch, kind, row_index, valid, min_score, max_score, contains)
    rows, token, total = page_of_rollouts(session, job.name, listing, wanted, offset=offset, summary=view == "SUMMARY")
    shown = summaries(session, rows)
    if view == "FULL":
        shown = [{**summary, "row": row.row} for summary, row in zip(shown, rows, strict=True)]
    return {"rollouts": shown, "nextPageToken": token, "totalSize": total}


@router.get("/{rollout_id}")
def rollout(account: AccountId, job_id: str, rollout_id: str, session: Reader, control: Control) -> dict[str, Any]:
    """One rollout: its row, the others of its group, the same row at every step (`history`), and its tokens by turn."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    found = get_rollout(session, job.name, rollout_id)
    status = statuses(session, [found])
    return {
        **RolloutRecord.model_validate(_fields(found, RolloutRecord, status)).model_dump(mode="json", by_alias=True),
        "group": summaries(session, group_of(session, found)),
        "history": summaries(session, history_of(session, found)),
        "turns": turns_of(control, job, found),
    }


def summaries(session: Session, rows: list[Rollout]) -> list[dict[str, Any]]:
    """Rollouts as tables show them, every field of them there."""
    status = statuses(session, rows)
    found = [RolloutSummary.model_validate(_fields(row, RolloutSummary, status)) for row in rows]
    return [summary.model_dump(mode="json", by_alias=True) for summary in found]


def turns_of(control: ControlPlane, job: Job, rollout: Rollout) -> list[dict[str, Any]]:
    """The model calls of a rollout, token by token; empty for what this platform's gateway did not record."""
    with reading(control.captured) as session:
        calls = calls_of_rollout(session, job.account, rollout.rollout_id)
    own = [call for call in calls if call.job == short_id(job.name)]
    return token_turns(own or calls, _vocabulary(control, job), rollout.advantage)


def _vocabulary(control: ControlPlane, job: Job) -> Vocabulary | None:
    try:
        entry = find_entry(control, short_id(job.account), str(job.spec["base_model"]))
        return loaded_renderer(entry).vocabulary
    except TunesmithError:
        return None  # the model was removed or changed since: the tokens are shown without their text


def _fields(row: Rollout, model: type[RolloutSummary], status: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    own = {name: getattr(row, name) for name in model.model_fields if name not in ("id", "status")}
    return {**own, "id": str(row.id), "status": status.get(row.id)}
