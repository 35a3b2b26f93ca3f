"""Sessions of the Agent: create, find, talk to, follow, end. What a message means is `agent.conversation`; the work is the job's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic_core import to_json
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from tunesmith.agent.conversation import Turn, begin, plan_of, respond
from tunesmith.agent.document import FINAL, Document, EventKind, State
from tunesmith.agent.plan import Plan
from tunesmith.db import sessions as table
from tunesmith.db.jobs import get as get_job
from tunesmith.db.jobs import request_cancel, wake
from tunesmith.db.session import reading
from tunesmith.db.tables import AgentSession as SessionRow
from tunesmith.db.tables import SessionEvent as EventRow
from tunesmith.db.users import rights_of
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.schemas.names import account_name, check_job_id, resource_name, short_id
from tunesmith.schemas.sessions import AgentSession, SessionCreate, SessionEvent, SessionMessage, SessionUpdate
from tunesmith.server import permissions
from tunesmith.server.agent_model import read_by_model
from tunesmith.server.auth import AccountId, account_key
from tunesmith.server.control import Control, ControlPlane, Listing, Reader, Writer
from tunesmith.server.session_names import names_in_reach

NOUN = table.NOUN
router = APIRouter(prefix="/v1/accounts/{account_id}", tags=[NOUN])

CANCEL_ROUTE = f"/v1/accounts/{{account_id}}/{NOUN}/{{session_id}}:cancel"
LONGEST_ID = 35
"""Characters: the longest id that is derived from it (`eval-{id}-report-base-t10`, a job's) must be a valid one."""
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
MOST_EVENTS = 1000


def _creator(request: Request, control: Control) -> str:
    key = account_key(request, control)
    return key.user or key.account


@router.post(f"/{NOUN}")
def create(
    account: AccountId,
    body: SessionCreate,
    request: Request,
    control: Control,
    creator: Annotated[str, Depends(_creator)],
    session_id: Annotated[str | None, Query(alias="sessionId")] = None,
) -> dict[str, Any]:
    """Start a session from an instruction, a plan, or both. The same create under the same id is answered with that session."""
    name = _name(account, session_id or table.new_id())
    check_job_id(short_id(name), "sessionId")
    if len(short_id(name)) > LONGEST_ID:
        raise InvalidArgument(f"sessionId {short_id(name)!r} is too long: use at most {LONGEST_ID} characters.")
    sent = body.given()
    with reading(control.sessions) as session:
        repeated = table.find_repeated(session, name, sent)
        if repeated is not None:
            return session_wire(session, repeated, request)
        names = names_in_reach(session, control.settings, account)
    instruction, plan = body.instruction or "", plan_of(body.plan) if body.plan is not None else None
    hints = read_by_model(control.settings, instruction, names, None, plan or Plan(), starts=True)
    turn = begin(instruction, plan, names, hints)
    with control.sessions.begin() as session:
        repeated = table.find_repeated(session, name, sent)
        if repeated is not None:
            return session_wire(session, repeated, request)
        row = table.create_session(session, account_name(account), name, sent, turn.document, creator)
        _append(session, name, "create", turn)
        return session_wire(session, row, request)


@router.get(f"/{NOUN}")
def list_(account: AccountId, request: Request, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of sessions, newest first; `filter=state=waiting` (or `status=`)."""
    rows, token = table.list_sessions(session, account_name(account), listing)
    return {NOUN: [session_wire(session, row, request) for row in rows], "nextPageToken": token}


@router.get("/sessionPlanSchema")
def plan_schema(account: AccountId) -> dict[str, Any]:
    """JSON schema of a plan."""
    del account
    return Plan.model_json_schema(by_alias=True)


@router.post(f"/{NOUN}/{{session_id}}:send")
def send(
    account: AccountId, session_id: str, body: SessionMessage, request: Request, control: Control
) -> dict[str, Any]:
    """Take a message, or a plan in the place of the one that is not approved yet; decided in one transaction with the gate.

    A message that would end the session is a cancel, which a key of preset `pilot` may not do.
    """
    key = account_key(request, control)
    if (body.message is None) == (body.plan is None):
        raise InvalidArgument("Send either a message or a plan.")
    name = _name(account, session_id)
    said: str | Plan = plan_of(body.plan) if body.plan is not None else body.message or ""
    with reading(control.sessions) as session:
        row = table.get_session(session, name)
        document = Document.model_validate(row.document)
        names = names_in_reach(session, control.settings, account)
    hints = None
    if isinstance(said, str) and document.approved_plan is None and row.state not in FINAL:
        gate = document.gate if row.state == State.WAITING else None
        hints = read_by_model(
            control.settings, said, names, gate, document.plan, starts=False
        )  # no transaction waits for it
    with control.sessions.begin() as session:
        row = table.get_session(session, name)
        document, revision = table.read(session, name)
        turn = respond(document, State(row.state), said, names, hints, row.phase)
        if turn.end:
            rights = rights_of(session, key)
            assert rights is not None, "the key was checked with the path's account"
            permissions.check(rights, "POST", CANCEL_ROUTE)
        state = State.CANCELLED if turn.end else State.RUNNING if turn.wake else None
        table.write(session, name, turn.document, revision, state=state)
        _append(session, name, f"message-{revision + 1}", turn)
        if turn.end:
            request_cancel(session, name)
        elif turn.wake:
            wake(session, name)
        return session_wire(session, table.get_session(session, name), request)


@router.post(f"/{NOUN}/{{session_id}}:cancel")
def cancel(account: AccountId, session_id: str, session: Writer) -> dict[str, Any]:
    """End the session and the jobs that it runs; what they made stays. One that has ended stays as it is."""
    name = _name(account, session_id)
    if table.get_session(session, name).state in FINAL:
        return {}
    stopped = table.cancel_session(session, name)
    document, revision = table.read(session, name)
    also = f" Its running jobs were asked to end: {', '.join(map(short_id, stopped))}." if stopped else ""
    document.message = "Cancelled."
    table.write(session, name, document, revision, state=State.CANCELLED)
    table.append_event(session, name, "cancelled", EventKind.STATUS_INFO, f"The session was cancelled.{also}")
    return {}


@router.get(f"/{NOUN}/{{session_id}}/events", response_model=None)
async def events(
    account: AccountId,
    session_id: str,
    request: Request,
    control: Control,
    page_size: Annotated[int, Query(alias="pageSize", ge=0)] = 0,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
    after: Annotated[int | None, Query(ge=0)] = None,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> Response | dict[str, Any]:
    """The history, oldest first; as server-sent events until the session waits or has ended when the client accepts those."""
    name, streamed = _name(account, session_id), "text/event-stream" in accept
    position = after if after is not None else _position(page_token or (last_event_id if streamed else ""))
    if not streamed:
        return await run_in_threadpool(_page, control, name, position, min(page_size or 100, MOST_EVENTS))
    tail = Tail(control, name, position, request)
    first = await run_in_threadpool(tail.read)  # a missing session is a 404, not a broken stream
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(_stream(tail, first), media_type="text/event-stream", headers=headers)


@router.get(f"/{NOUN}/{{session_id}}/report")
def report(account: AccountId, session_id: str, session: Reader) -> Response:
    """`final_report.md`."""
    name = _name(account, session_id)
    text = table.read(session, name)[0].report
    if not text:
        raise NotFound(f"The session {name} has no report yet: it is written in the last phase.")
    return Response(text, media_type="text/markdown; charset=utf-8")


@router.get(f"/{NOUN}/{{session_id}}/report/{{filename}}")
def report_figure(account: AccountId, session_id: str, filename: str, session: Reader) -> Response:
    """A picture of the report."""
    name = _name(account, session_id)
    figures = table.read(session, name)[0].figures
    if filename not in figures:
        has = ", ".join(figures) or "none"
        raise NotFound(f"The report of {name} has no picture {filename[:80]!r}. It has: {has}.")
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(figures[filename], media_type="image/svg+xml", headers=headers)


@router.get(f"/{NOUN}/{{session_id}}")
def get(account: AccountId, session_id: str, request: Request, session: Reader) -> dict[str, Any]:
    """One session: state, phase, plan, pending gate, figures so far."""
    return session_wire(session, table.get_session(session, _name(account, session_id)), request)


@router.patch(f"/{NOUN}/{{session_id}}")
def update(
    account: AccountId, session_id: str, body: SessionUpdate, request: Request, session: Writer
) -> dict[str, Any]:
    """Give it another display name."""
    row = table.get_session(session, _name(account, session_id))
    row.display_name, row.updated = body.display_name, time.time()
    return session_wire(session, row, request)


@router.delete(f"/{NOUN}/{{session_id}}")
def delete(account: AccountId, session_id: str, session: Writer) -> dict[str, Any]:
    """Cancel it if it runs, then remove it with its history. Models, datasets and deployments stay."""
    table.delete_session(session, _name(account, session_id))
    return {}


@dataclass
class Tail:
    """Reads what is new in one session's history, from a position on."""

    control: ControlPlane
    name: str
    position: int
    request: Request

    def read(self) -> tuple[str, dict[str, Any] | None]:
        """New events as text, and the session when it waits or has ended. Raises NotFound."""
        with reading(self.control.sessions) as session:
            row = table.get_session(session, self.name)
            fresh = table.list_events(session, self.name, self.position, MOST_EVENTS)
            quiet = row.state != State.RUNNING and len(fresh) < MOST_EVENTS
            done = session_wire(session, row, self.request) if quiet else None
        text = ""
        for event in fresh:
            self.position = event.sequence
            text += f"id: {event.sequence}\nevent: {event.kind}\ndata: {to_json(event_wire(event)).decode()}\n\n"
        return text, done


async def _stream(tail: Tail, first: tuple[str, dict[str, Any] | None]) -> AsyncIterator[str]:
    text, done = first
    sent = time.monotonic()
    while True:
        if text:
            yield text
            sent = time.monotonic()
        if done is not None:
            yield f"event: done\ndata: {to_json(done).decode()}\n\n"
            return
        if time.monotonic() - sent > HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            sent = time.monotonic()
        if await tail.request.is_disconnected():
            return
        await asyncio.sleep(POLL_SECONDS)
        try:
            text, done = await run_in_threadpool(tail.read)
        except NotFound:
            return  # the session was deleted meanwhile


def _page(control: ControlPlane, name: str, position: int, size: int) -> dict[str, Any]:
    with reading(control.sessions) as session:
        table.get_session(session, name)
        rows = table.list_events(session, name, position, size + 1)
    token = str(rows[size - 1].sequence) if len(rows) > size else ""
    return {"events": [event_wire(row) for row in rows[:size]], "nextPageToken": token}


def _append(session: Session, name: str, key: str, turn: Turn) -> None:
    for index, said in enumerate(turn.events):
        table.append_event(session, name, f"{key}/{index}", said.kind, said.text, said.data)


def _name(account: str, identity: str) -> str:
    return resource_name(account, NOUN, identity)


def _position(text: str) -> int:
    if text and not text.isdecimal():
        raise InvalidArgument("pageToken and Last-Event-ID are sequence numbers of events.")
    return int(text or 0)


def event_wire(row: EventRow) -> dict[str, Any]:
    """An event as the API shows it."""
    return SessionEvent.model_validate(
        {"sequence": row.sequence, "time": row.created, "kind": row.kind, "text": row.text, "data": row.data}
    ).dump()


def session_wire(session: Session, row: SessionRow, request: Request) -> dict[str, Any]:
    """A session as the API shows it."""
    document = Document.model_validate(row.document)
    job = get_job(session, row.name)
    shown = document.model_dump(mode="json", by_alias=True)
    waits = row.state == State.WAITING and document.gate is not None and not document.gate.answered
    wire = AgentSession.model_validate(
        {
            "name": row.name,
            "displayName": row.display_name,
            "instruction": row.instruction,
            "state": row.state,
            "status": job.status or {"code": "OK", "message": ""},
            "phase": row.phase,
            "plan": shown["plan"],
            "approvedPlan": shown["approvedPlan"],
            "understood": document.understood,
            "estimate": shown["estimate"],
            "spentSeconds": round(sum(document.spent.values()), 3),
            "spent": document.spent,
            "candidates": shown["candidates"],
            "winner": document.winner,
            "reason": document.reason,
            "heldOut": shown["heldOut"],
            "deployed": shown["deployed"],
            "reportUrl": f"{request.base_url}v1/{row.name}/report" if document.report else None,
            "message": document.message,
            "createTime": row.created,
            "updateTime": row.updated,
            "completedTime": row.completed,
            "createdBy": row.created_by,
        }
    ).dump()
    return {**wire, "pendingGate": shown["gate"] if waits else None}
