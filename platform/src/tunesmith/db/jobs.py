"""Durable jobs: enqueue, claim by lease, report, finish. Nothing here commits; the caller's transaction is the edge.

A job is claimable when it is PENDING and nobody holds it, when it is not final and its lease has run out, or when its deletion
was asked for and nobody holds it. Claiming is one statement (`UPDATE ... RETURNING`), so two workers never get the same job;
whose turn it is says `db.turns`.
Functions that a worker calls take its `owner` id and return False when the lease is no longer that worker's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, ColumnElement, and_, case, delete, false, func, literal, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tunesmith.db.tables import Job
from tunesmith.db.turns import Waiting, in_turn
from tunesmith.errors import NotFound

PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
PAUSED = "JOB_STATE_PAUSED"
"""Waits for a person; no worker holds it."""
CANCELLING = "JOB_STATE_CANCELLING"
CANCELLED = "JOB_STATE_CANCELLED"
COMPLETED = "JOB_STATE_COMPLETED"
FAILED = "JOB_STATE_FAILED"
EARLY_STOPPED = "JOB_STATE_EARLY_STOPPED"
DELETING = "JOB_STATE_DELETING"
LONGEST_DELAY_SECONDS = 600.0
"""No job is put back for longer than this."""
FINAL_STATES = frozenset({COMPLETED, FAILED, CANCELLED, EARLY_STOPPED, "JOB_STATE_EXPIRED"})


def enqueue(
    session: Session,
    name: str,
    account: str,
    kind: str,
    spec: dict[str, Any],
    notes: list[Any] | None = None,
    state: str = PENDING,
    created_by: str = "",
) -> Job:
    """Add a job, or return the one that has this name already (idempotent; the first spec stays).

    `account` is the account's resource name, `created_by` that of the user, if any. A state other than PENDING is not claimed until it is set to PENDING.
    """
    existing = session.get(Job, name)
    if existing is not None:
        return existing
    facts = {"name": name, "account": account, "kind": kind, "created_by": created_by}
    job = Job(**facts, spec=spec, notes=notes or [], state=state)
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:
        winner = session.get(Job, name)
        if winner is None:
            raise
        return winner
    return job


def get(session: Session, name: str) -> Job:
    """The job of that name. Raises NotFound."""
    job = session.get(Job, name)
    if job is None:
        raise NotFound(f"There is no job {name}.")
    return job


def list_jobs(session: Session, account: str, kind: str) -> list[Job]:
    """All jobs of one kind of an account that are not being deleted, newest first."""
    query = select(Job).where(Job.account == account, Job.kind == kind, Job.delete_requested == false())
    return list(session.scalars(query.order_by(Job.created.desc(), Job.name)))


def claimable_kinds(session: Session, kinds: Sequence[str]) -> set[str]:
    """Those of the kinds of which `claim` would find a job."""
    return set(session.scalars(select(Job.kind).where(Job.kind.in_(kinds), _claimable(time.time())).distinct()))


def in_order(session: Session, kinds: Sequence[str], among: ColumnElement[bool]) -> list[str]:
    """Names of the jobs of these kinds that meet the condition, in the order in which workers take them (`db.turns`)."""
    columns = (Job.name, Job.account, Job.created_by, Job.created, Job.state, Job.delete_requested)
    rows = session.execute(select(*columns).where(Job.kind.in_(kinds), among)).all()
    if len(rows) < 2:
        return [row.name for row in rows]
    waiting = [
        Waiting(row.name, (row.account, row.created_by), row.created, row.state != PENDING or row.delete_requested)
        for row in rows
    ]
    share = (Job.account, Job.created_by)
    held = and_(Job.lease_owner.is_not(None), Job.lease_expires > time.time(), Job.state.not_in(FINAL_STATES))
    running = session.execute(select(*share, func.count()).where(Job.kind.in_(kinds), held).group_by(*share))
    begun = select(*share, func.max(Job.started)).where(Job.kind.in_(kinds), Job.started.is_not(None))
    served = session.execute(begun.group_by(*share))
    return in_turn(
        waiting,
        {(account, user): count for account, user, count in running},
        {(account, user): when for account, user, when in served if when is not None},
    )


def next_job(session: Session, kinds: Sequence[str]) -> Job | None:
    """The job of these kinds that `claim` would take."""
    order = in_order(session, kinds, _claimable(time.time()))
    return session.get(Job, order[0]) if order else None


def claim(
    session: Session, owner: str, kinds: Sequence[str], lease_seconds: float, *, name: str | None = None
) -> Job | None:
    """Take the claimable job of these kinds whose turn it is for `owner`, or the one of that name; None when there is none.

    The claim itself is one atomic statement; `attempts` counts claims since the job last moved on.
    """
    now = time.time()
    order = [name] if name is not None else in_order(session, kinds, _claimable(now))
    waited = Job.waiting_for != ""
    statement = (
        update(Job)
        .where(Job.name.in_(order[:1]), Job.kind.in_(kinds), _claimable(now))
        .values(
            lease_owner=owner,
            lease_expires=now + lease_seconds,
            attempts=Job.attempts + 1,
            started=func.coalesce(Job.started, now),
            state=case((Job.state == PENDING, RUNNING), else_=Job.state),
            status=case((waited, literal({}, JSON)), else_=Job.status),
            waiting_for="",
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def note_waiting(session: Session, name: str, reason: str) -> bool:
    """Say what a queued job waits for; its status says the same until a worker takes it. False when nothing had to be changed."""
    values = {"waiting_for": reason, "status": {"code": "OK", "message": reason}}
    return _change(session, and_(Job.state == PENDING, Job.waiting_for != reason), name, values)


def renew(session: Session, name: str, owner: str, lease_seconds: float) -> Job | None:
    """Prolong the lease; the fresh row (with its cancel and delete requests), or None when the lease is not `owner`'s any more."""
    statement = (
        update(Job)
        .where(Job.name == name, Job.lease_owner == owner)
        .values(lease_expires=time.time() + lease_seconds, updated=Job.updated)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def release(
    session: Session,
    name: str,
    owner: str,
    *,
    delay: float = 0.0,
    counted: bool = False,
    status: dict[str, Any] | None = None,
) -> bool:
    """Give the job back: claimable again after `delay` seconds. Unless `counted`, this attempt is not counted."""
    values: dict[str, Any] = {"lease_owner": None, "lease_expires": time.time() + delay}
    if status is not None:
        values["status"] = status
    if not counted:
        values["attempts"] = Job.attempts - 1
    return _change(session, Job.lease_owner == owner, name, values)


def lease_owners(session: Session) -> list[str]:
    """Everyone who holds a lease, live or not."""
    return [owner for owner in session.scalars(select(Job.lease_owner).distinct()) if owner is not None]


def expire_leases(session: Session, owner: str) -> list[str]:
    """Let all leases of a worker that is known to be dead run out now. Names of its jobs."""
    values = {"lease_owner": None, "lease_expires": time.time(), "updated": Job.updated}
    statement = update(Job).where(Job.lease_owner == owner).values(**values)
    return list(session.scalars(statement.returning(Job.name).execution_options(synchronize_session=False)))


def set_progress(
    session: Session,
    name: str,
    progress: dict[str, Any],
    *,
    state: str | None = None,
    owner: str | None = None,
    moved_on: bool = False,
) -> bool:
    """Replace the job's progress and, when given, its (non-final) state. A CANCELLING or DELETING job keeps its state.

    `moved_on`: it is further than any claim before it came, so its attempts start anew, with this claim as the first.
    A `Job` that the session holds is not refreshed: a running job says this every second, and reading its row back costs more.
    """
    values: dict[str, Any] = {"progress": progress, **({"attempts": 1} if moved_on else {})}
    if state is not None:
        values["state"] = case((Job.state.in_([CANCELLING, DELETING]), Job.state), else_=state)
    statement = update(Job).where(Job.name == name, _held_by(owner)).values(**values).returning(Job.name)
    return session.execute(statement.execution_options(synchronize_session=False)).one_or_none() is not None


def finish(session: Session, name: str, state: str, status: dict[str, Any], *, owner: str | None = None) -> bool:
    """Give the job a final state and status `{"code", "message"}` and drop its lease. With `owner`, only under that lease."""
    if state not in FINAL_STATES:
        raise ValueError(f"{state} is not a final state")
    values = {"state": state, "status": status, "completed": time.time(), "lease_owner": None, "lease_expires": None}
    return _change(session, and_(_held_by(owner), Job.state.not_in(FINAL_STATES)), name, values)


def pause(session: Session, name: str, owner: str) -> bool:
    """Let a job wait for a person, without a lease. One that was woken, or asked to end, meanwhile is claimable at once instead.

    Its attempts start anew: each pause was reached without a fault. False when the lease is not `owner`'s any more.
    """
    asked = Job.state.in_([PENDING, CANCELLING, DELETING])
    values = {
        "state": case((asked, Job.state), else_=PAUSED),
        "lease_owner": None,
        "lease_expires": case((asked, time.time()), else_=None),
        "attempts": 0,
    }
    return _change(session, and_(Job.lease_owner == owner, Job.state.not_in(FINAL_STATES)), name, values)


def wake(session: Session, name: str) -> bool:
    """Have a job looked at anew: a paused one is claimable at once, one that a worker holds as soon as it would pause.

    False when it has ended or was asked to end.
    """
    return _change(session, Job.state.not_in([*FINAL_STATES, CANCELLING, DELETING]), name, {"state": PENDING})


def request_cancel(session: Session, name: str) -> Job:
    """Ask for a job's cancellation. One that no worker ever held is CANCELLED at once; a final one is left as it is.

    Raises NotFound.
    """
    now = time.time()
    waiting = and_(Job.state.not_in(FINAL_STATES), Job.started.is_(None), Job.lease_owner.is_(None))
    status = {"code": "CANCELLED", "message": "Cancelled before it started."}
    at_once = {"cancel_requested": True, "state": CANCELLED, "status": status, "completed": now}
    if not _change(session, waiting, name, at_once):
        lease = func.coalesce(Job.lease_expires, now)  # a paused job has none, and must be claimable to wind up
        values = {"cancel_requested": True, "state": CANCELLING, "lease_expires": lease}
        _change(session, Job.state.not_in(FINAL_STATES), name, values)
    return get(session, name)


def request_delete(session: Session, name: str) -> Job:
    """Ask for a job's deletion: it is cancelled if need be, then a worker removes its files and its row. Raises NotFound."""
    running = Job.state.not_in(FINAL_STATES)
    values = {"delete_requested": True, "cancel_requested": case((running, True), else_=Job.cancel_requested)}
    _change(session, true(), name, {**values, "state": case((running, DELETING), else_=Job.state)})
    return get(session, name)


def remove(session: Session, name: str, owner: str) -> bool:
    """Delete the row of a job whose files are gone. Only the worker that holds it may."""
    statement = delete(Job).where(Job.name == name, Job.lease_owner == owner, Job.delete_requested == true())
    return bool(session.execute(statement.returning(Job.name)).all())


def _claimable(now: float) -> ColumnElement[bool]:
    # Put back for later, by a clock that has been set back since: no delay is that long.
    misdated = and_(Job.lease_owner.is_(None), Job.lease_expires > now + LONGEST_DELAY_SECONDS)
    over = or_(Job.lease_expires <= now, misdated)
    unheld = or_(Job.lease_expires.is_(None), over)
    waiting = and_(Job.state == PENDING, unheld)
    abandoned = and_(Job.state.not_in(FINAL_STATES), over)
    return or_(waiting, abandoned, and_(Job.delete_requested == true(), unheld))


def _held_by(owner: str | None) -> ColumnElement[bool]:
    return true() if owner is None else Job.lease_owner == owner


def _change(session: Session, condition: ColumnElement[bool], name: str, values: dict[str, Any]) -> bool:
    statement = update(Job).where(Job.name == name, condition).values(**values).returning(Job)
    options = {"synchronize_session": False, "populate_existing": True}
    return session.scalars(statement.execution_options(**options)).one_or_none() is not None
