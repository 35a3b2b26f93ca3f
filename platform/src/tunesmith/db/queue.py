"""The queue as people see it: who waits in which place, and which jobs run. Taking jobs from it is `db.jobs`. Nothing here commits."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.jobs import FINAL_STATES, PENDING, in_order
from tunesmith.db.tables import Job


def places(session: Session, kind: str) -> dict[str, int]:
    """Place in the queue, from 1, of every job of a kind that waits for a worker."""
    pending = (Job.state == PENDING) & Job.lease_owner.is_(None)
    return {name: place for place, name in enumerate(in_order(session, [kind], pending), start=1)}


def running_jobs(session: Session, kind: str) -> list[Job]:
    """The jobs of a kind that a worker holds, oldest first."""
    held = select(Job).where(Job.kind == kind, Job.lease_expires > time.time(), Job.lease_owner.is_not(None))
    return list(session.scalars(held.where(Job.state.not_in(FINAL_STATES)).order_by(Job.created)))
