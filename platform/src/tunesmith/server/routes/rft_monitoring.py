"""What an RFT job has done so far: its metrics, and a live stream of them that can be resumed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from tunesmith.db.jobs import FINAL_STATES
from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.rollouts import list_events
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, JobEvent
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, ControlPlane, Reader
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, rft_job_wire

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])

FILES = {"events": "events.jsonl", "metrics": "metrics.jsonl"}
"""Name of an event in the stream -> file of the run directory whose lines it carries."""
POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
_POSITION = re.compile(r"(\d+)\.(\d+)")


@router.get("/metrics")
def metrics(account: AccountId, job_id: str, session: Reader) -> dict[str, Any]:
    """Everything a chart needs: a line per optimizer step, and the run's events (chunks, evaluations, versions)."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    lines = {name: [_record(event) for event in list_events(session, job.name, file)] for name, file in FILES.items()}
    return {"name": job.name, "state": job.state, "run": job.progress.get("run"), **lines}


@router.get("/events")
async def events(
    account: AccountId,
    job_id: str,
    request: Request,
    control: Control,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> StreamingResponse:
    """Server-sent events until the job ends: `job` (the whole job, when it changed), `events` and `metrics` (one line each),
    `end`. The id of an event is a position; sent back as Last-Event-ID, the stream goes on after it."""
    name = resource_name(account, NOUN, job_id)
    tail = Tail(control, name, _positions(last_event_id))
    first = await run_in_threadpool(tail.read)  # a missing job is a 404, not a broken stream
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(_stream(tail, first, request), media_type="text/event-stream", headers=headers)


@dataclass
class Tail:
    """Reads what is new about one job, from a position on."""

    control: ControlPlane
    name: str
    positions: dict[str, int]
    """Byte offset of the last line sent, per file."""
    _shown: dict[str, Any] = field(default_factory=dict)

    def read(self) -> tuple[str, bool]:
        """New events as text, and whether the job has ended. Raises NotFound."""
        with reading(self.control.sessions) as session:
            job = get_rft_job(session, self.name)
            fresh = {kind: list_events(session, self.name, file, self.positions[kind]) for kind, file in FILES.items()}
        text = ""
        for kind, lines in fresh.items():
            for line in lines:
                self.positions[kind] = line.offset
                text += _event(kind, _record(line), self._id())
        return text + self._job(job), job.state in FINAL_STATES

    def _job(self, job: Job) -> str:
        wire = rft_job_wire(job)
        if wire == self._shown:
            return ""
        self._shown = wire
        return _event("job", wire, self._id())

    def _id(self) -> str:
        return ".".join(str(max(0, self.positions[kind])) for kind in FILES)


async def _stream(tail: Tail, first: tuple[str, bool], request: Request) -> AsyncIterator[str]:
    text, ended = first
    sent = time.monotonic()
    while True:
        if text:
            yield text
            sent = time.monotonic()
        elif time.monotonic() - sent > HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            sent = time.monotonic()
        if ended or await request.is_disconnected():
            break
        await asyncio.sleep(POLL_SECONDS)
        try:
            text, ended = await run_in_threadpool(tail.read)
        except NotFound:
            break  # the job was deleted meanwhile
    yield "event: end\ndata: {}\n\n"


def _record(event: JobEvent) -> dict[str, Any]:
    return event.record


def _event(kind: str, data: Any, position: str) -> str:
    text = to_json(data, inf_nan_mode="null").decode()  # a diverged run has NaN in its metrics, which is not JSON
    return f"id: {position}\nevent: {kind}\ndata: {text}\n\n"


def _positions(last_event_id: str) -> dict[str, int]:
    if not last_event_id:
        return dict.fromkeys(FILES, -1)
    match = _POSITION.fullmatch(last_event_id)
    if match is None:
        raise InvalidArgument("Last-Event-ID is not one that this stream gave out.")
    return dict(zip(FILES, (int(part) for part in match.groups()), strict=True))
