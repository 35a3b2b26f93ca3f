"""Sessions of the Agent: the document with its revision, the history, and the job of the same name that works it off.

Whoever changes a session reads its document with `read`, and writes it with `write` on the revision that it read, in one transaction
with the events that tell of the change. When somebody else wrote meanwhile, `write` raises Conflict and nothing is kept: read again.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from tunesmith.agent.document import FINAL, Document, State
from tunesmith.db import jobs
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import AgentSession, Job, SessionEvent
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable

KIND = "session"
NOUN = "sessions"
CHILD_KINDS = ("sft", "dpo", "evaluation", "evaluator_build", "deployment")
_CHILD = (
    r"/(?:(?:sft|dpo)-{0}-(?:c\d+|final)|eval-{0}-(?:c\d+|base\d*-t\d+|report-base-t\d+|report-final|gold|shuffled)|agent-{0})"
    r"(?:-\d+)?(?:/builds/\d+)?$"
)
"""Names of a session's jobs; `{0}` is its id. Whole, so that session `a` does not take those of session `a-b` for its own."""
FIELDS = Fields(
    key=AgentSession.name,
    order={
        "name": AgentSession.name,
        "create_time": AgentSession.created,
        "update_time": AgentSession.updated,
        "state": AgentSession.state,
    },
    filters={
        "name": AgentSession.name,
        "state": AgentSession.state,
        "status": AgentSession.state,
        "phase": AgentSession.phase,
        "display_name": AgentSession.display_name,
    },
)


class Conflict(Unavailable):
    """Somebody else wrote the session's document meanwhile: read it again, and do it again."""


def new_id() -> str:
    """An id for a session: Unix seconds and four hexadecimal digits, as documented."""
    return f"{int(time.time())}-{secrets.token_hex(2)}"


def create_session(
    session: Session, account: str, name: str, request: dict[str, Any], document: Document, created_by: str = ""
) -> AgentSession:
    """Add a session and queue its job, or return the one that the same request made under this name before.

    Args:
        session: the transaction.
        account: resource name.
        name: the session's resource name, which is its job's, too.
        request: what the client sent (`instruction`, `plan`, `displayName`, `scope`); kept as the job's spec.
        document: what it knows at the start.
        created_by: whose key it was.

    Raises:
        AlreadyExists: another request made a session of this name.
        FailedPrecondition: one of this name is being deleted.
    """
    existing = find_repeated(session, name, request)
    if existing is not None:
        return existing
    if session.get(Job, name) is not None:
        raise FailedPrecondition(f"The session {name} is still being deleted. Try again shortly, or choose another id.")
    row = AgentSession(
        name=name,
        account=account,
        display_name=request.get("displayName") or "",
        instruction=request.get("instruction") or "",
        state=State.RUNNING,
        document=document.model_dump(mode="json"),
        created_by=created_by,
    )
    session.add(row)
    jobs.enqueue(session, name, account, KIND, request)
    session.flush()
    return row


def find_repeated(session: Session, name: str, request: dict[str, Any]) -> AgentSession | None:
    """The session that the same request made under this name before. Raises AlreadyExists when another request did."""
    existing = session.get(AgentSession, name)
    if existing is None:
        return None
    if jobs.get(session, name).spec != request:
        raise AlreadyExists(
            f"The session {name} exists already, with another instruction. Choose another id, or send it a message."
        )
    return existing


def get_session(session: Session, name: str) -> AgentSession:
    """The session of that resource name. Raises NotFound."""
    row = session.get(AgentSession, name)
    if row is None:
        raise NotFound(f"There is no session {name}. List the account's sessions to see their ids.")
    return row


def list_sessions(session: Session, account: str, query: ListQuery) -> tuple[list[AgentSession], str]:
    """One page of an account's sessions and the token of the next."""
    return page(session, AgentSession, [AgentSession.account == account], FIELDS, query)


def read(session: Session, name: str) -> tuple[Document, int]:
    """The session's document and its revision. Raises NotFound."""
    row = get_session(session, name)
    return Document.model_validate(row.document), row.revision


def write(
    session: Session,
    name: str,
    document: Document,
    revision: int,
    *,
    state: State | None = None,
    phase: str | None = None,
) -> int:
    """Replace the document that was read at `revision`, and the state and phase where given. The new revision.

    A final state also sets the time of completion. Raises NotFound, Conflict.
    """
    now = time.time()
    values: dict[str, Any] = {
        "document": document.model_dump(mode="json"),
        "revision": revision + 1,
        "updated": now,
        **({"state": str(state)} if state is not None else {}),
        **({"phase": str(phase)} if phase is not None else {}),
        **({"completed": now} if state in FINAL else {}),
    }
    statement = (
        update(AgentSession)
        .where(AgentSession.name == name, AgentSession.revision == revision)
        .values(**values)
        .returning(AgentSession)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if session.scalars(statement).one_or_none() is None:
        get_session(session, name)
        raise Conflict(f"The session {name} was changed by somebody else meanwhile. Read it again, and repeat.")
    return revision + 1


def append_event(
    session: Session, name: str, key: str, kind: str, text: str, data: dict[str, Any] | None = None
) -> SessionEvent:
    """Add a line to a session's history, numbered without gaps from 1; the same `key` again is the line written before."""
    unique = f"{name}/{key}"
    existing = session.scalars(select(SessionEvent).where(SessionEvent.key == unique)).one_or_none()
    if existing is not None:
        return existing
    last = session.scalar(select(func.max(SessionEvent.sequence)).where(SessionEvent.session == name)) or 0
    event = SessionEvent(
        session=name, sequence=last + 1, key=unique, kind=str(kind), text=text, data=data or {}, created=time.time()
    )
    session.add(event)
    session.flush()
    return event


def list_events(session: Session, name: str, after: int = 0, limit: int = 1000) -> Sequence[SessionEvent]:
    """Lines of a session's history behind that sequence number, oldest first."""
    query = select(SessionEvent).where(SessionEvent.session == name, SessionEvent.sequence > after)
    return session.scalars(query.order_by(SessionEvent.sequence).limit(limit)).all()


def children(session: Session, name: str) -> list[str]:
    """Names of the unfinished jobs that a session started: their ids derive from its own (docs/reference/seams.md)."""
    account, identity = name.rsplit(f"/{NOUN}/", 1)
    query = select(Job.name).where(
        Job.account == account,
        Job.kind.in_(CHILD_KINDS),
        Job.state.not_in(jobs.FINAL_STATES),
        Job.name.contains(f"-{identity}", autoescape=True),
    )
    return [job for job in session.scalars(query.order_by(Job.name)) if is_child(job, name)]


def is_child(job: str, name: str) -> bool:
    """Whether a job, by its name, is one that the session of that name started."""
    return re.search(_CHILD.format(re.escape(name.rsplit("/", 1)[-1])), job) is not None


def cancel_session(session: Session, name: str) -> Sequence[str]:
    """Ask for the end of a session's job and of the jobs that it started. Names of the latter. Raises NotFound."""
    asked = children(session, get_session(session, name).name)
    for child in asked:
        jobs.request_cancel(session, child)
    jobs.request_cancel(session, name)
    return asked


def delete_session(session: Session, name: str) -> None:
    """Remove a session and its history; a running one is cancelled. Its job's folder and row go when a worker comes to it.

    What it made (models, datasets, deployments) stays. Raises NotFound.
    """
    row = get_session(session, name)
    if row.state not in FINAL:
        cancel_session(session, name)
    jobs.request_delete(session, name)
    session.execute(delete(SessionEvent).where(SessionEvent.session == name))
    session.delete(row)
