"""Which unfinished jobs need a resource, so that it is not taken away under them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from tunesmith.db.jobs import FINAL_STATES
from tunesmith.db.tables import Job


def running_jobs_using(session: Session, account: str, value: str, fields: Sequence[str]) -> list[str]:
    """Names of the account's jobs that are not final and whose spec has `value` under one of `fields`."""
    mentions = or_(*(Job.spec[field].as_string() == value for field in fields))
    return list(
        session.scalars(select(Job.name).where(Job.account == account, Job.state.not_in(FINAL_STATES), mentions))
    )
