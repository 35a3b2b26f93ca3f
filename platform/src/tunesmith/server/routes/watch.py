"""One stream of everything that a page shows live: server-sent events of many topics, which can be cut and resumed anywhere."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from tunesmith.db.session import reading
from tunesmith.errors import InvalidArgument, TunesmithError
from tunesmith.schemas.names import account_name
from tunesmith.server import permissions
from tunesmith.server.auth import AccountId, bearer, known_key
from tunesmith.server.changes import Changes
from tunesmith.server.control import Control, ControlPlane
from tunesmith.server.topics import Topic, Watcher, open_topic

router = APIRouter(prefix="/v1/accounts/{account_id}", tags=["watch"])
PATH = f"{router.prefix}/watch"
HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 5.0
"""How long a stream may outlive its key."""
MOST_TOPICS = 32
_LISTED_BY = {"secrets": "ListSecrets", "users": "ListUsers", "apiKeys": "ListApiKeys", "providers": "ListProviders"}
"""Nouns that not everybody may list -> the call that lists them."""


@router.get("/watch")
async def watch(
    account: AccountId,
    request: Request,
    control: Control,
    topic: Annotated[list[str], Query(min_length=1, max_length=MOST_TOPICS)],
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> StreamingResponse:
    """Server-sent events of the topics until the client goes; the id of an event, sent back as Last-Event-ID, goes on after it."""
    changes: Changes = request.app.state.changes
    token = bearer(request)
    _, rights = await run_in_threadpool(known_key, control, token, "GET", PATH)
    hidden = frozenset(noun for noun, rpc in _LISTED_BY.items() if not permissions.allows(rights, rpc))
    watcher = Watcher(control, changes, request, account_name(account), hidden)
    stream = Stream(control, token, {name: open_topic(watcher, name) for name in dict.fromkeys(topic)})
    stream.begin(last_event_id)
    await run_in_threadpool(changes.look)
    first = await run_in_threadpool(stream.read)  # what is not there is a 404, not a broken stream
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(stream, changes, first), media_type="text/event-stream", headers=headers)


@dataclass
class Stream:
    """One client's topics, and where each of them stands."""

    control: ControlPlane
    key: str = field(repr=False)
    topics: dict[str, Topic]
    _checked: float = field(default_factory=time.monotonic)

    def begin(self, last_event_id: str) -> None:
        """Take up the positions of an event's id. Raises InvalidArgument when it is not one of ours."""
        for name, position in _positions(last_event_id).items():
            if name in self.topics:
                self.topics[name].position = position

    def read(self) -> str:
        """What is new, as text. Raises what the key's end, or a topic's, brings."""
        if time.monotonic() - self._checked > CHECK_SECONDS:
            known_key(self.control, self.key, "GET", PATH)
            self._checked = time.monotonic()
        parts: list[str] = []
        with reading(self.control.sessions) as session:
            for topic in self.topics.values():
                for kind, data, behind in topic.read(session):
                    topic.position = behind
                    parts.append(_event(kind, data, self.id()))
        return "".join(parts)

    def soon(self, otherwise: float) -> float:
        """Seconds until the next read is due, though nothing is committed."""
        return min((topic.soon for topic in self.topics.values() if topic.soon is not None), default=otherwise)

    def id(self) -> str:
        """Where all topics stand."""
        positions = {name: topic.position for name, topic in self.topics.items() if topic.position is not None}
        text = json.dumps(positions, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def _events(stream: Stream, changes: Changes, first: str) -> AsyncIterator[str]:
    async with changes.watching():
        looks = -1  # what was committed since the first read is read at once
        yield f"{first}id: {stream.id()}\n\n"  # an id alone: also before the first change one can go on from here
        sent = time.monotonic()
        while True:
            looks = await changes.wait(looks, min(stream.soon(HEARTBEAT_SECONDS), HEARTBEAT_SECONDS))
            try:
                text = await run_in_threadpool(stream.read)
            except TunesmithError:
                return  # the key ended: whoever comes back is told why
            if text:
                yield text
                sent = time.monotonic()
            elif time.monotonic() - sent >= HEARTBEAT_SECONDS:
                yield ": still here\n\n"
                sent = time.monotonic()


def _event(kind: str, data: Any, position: str) -> str:
    text = to_json(data, inf_nan_mode="null").decode()  # a diverged run has NaN in its metrics, which is not JSON
    return f"id: {position}\nevent: {kind}\ndata: {text}\n\n"


def _positions(last_event_id: str) -> dict[str, Any]:
    if not last_event_id:
        return {}
    try:
        text = base64.b64decode(last_event_id + "=" * (-len(last_event_id) % 4), altchars=b"-_", validate=True)
        found = json.loads(text)
    except (ValueError, binascii.Error):
        found = None
    if not isinstance(found, dict):
        raise InvalidArgument("Last-Event-ID is not one that this stream gave out.")
    return found
