"""Pages of a job's rollouts, for API and dashboard."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.orm import Session

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Rollout

FIELDS = Fields(
    key=Rollout.id,
    order={
        "id": Rollout.id,
        "step": Rollout.step,
        "row_index": Rollout.row_index,
        "score": func.coalesce(Rollout.score, -1.0),
    },
    filters={"kind": Rollout.kind, "rollout_id": Rollout.rollout_id},
    default_order="id",
)


def page_of_rollouts(
    session: Session, job: str, query: ListQuery, *, step: int | None = None
) -> tuple[list[Rollout], str]:
    """One page of a job's rollouts, in the order of their arrival unless asked otherwise, and the token of the next."""
    conditions = [Rollout.job == job] + ([] if step is None else [Rollout.step == step])
    return page(session, Rollout, conditions, FIELDS, query)
