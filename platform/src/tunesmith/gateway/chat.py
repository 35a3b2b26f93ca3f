"""The one way of a model call, whatever its dialect: authenticate, read, prepare, generate, answer. And `GET …/models`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.db.completions import Completion
from tunesmith.gateway.auth import Key
from tunesmith.gateway.dialects import Dialect
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.generation import Generation
from tunesmith.gateway.passthrough import pass_through
from tunesmith.gateway.paths import CallPath, call_path
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.streaming import EventStreamResponse, client_left, start_stream

T = TypeVar("T")

Handler = Callable[[GatewayState, Request], Awaitable[Response]]

IGNORED_HEADER = "x-tunesmith-ignored"
"""Names the options of a call that were accepted and had no effect."""
MAX_DEPTH = 128
"""Lists and objects inside each other in a body. Templates and encoders recurse."""
_TOO_DEEP = f"The body nests lists and objects more than {MAX_DEPTH} deep; send a flatter one."
WATCH_SECONDS = 0.05
"""How long a call goes on before it is looked whether its client is still there."""
_LEFT = 499
"""Status of an answer that nobody reads any more (nginx's word for it)."""


def call_handler(dialect: Callable[[], Dialect]) -> Handler:
    """The handler of a model call in a dialect, streamed or whole."""

    async def handle(state: GatewayState, request: Request) -> Response:
        path = call_path(request)
        key = await state.authenticator.authenticate(request)
        raw = await read_body(request)
        body = decoded(raw)
        passed = await pass_through(state, request, key, path, body)
        if passed is not None:
            return await unless_client_leaves(request, passed.run(request, raw)) or Response(status_code=_LEFT)
        return await _answer(state, request, key, path, body, dialect())

    return handle


async def _answer(
    state: GatewayState, request: Request, key: Key, path: CallPath, body: Any, dialect: Dialect
) -> Response:
    async def recall(id: str) -> Completion | None:
        return await asyncio.to_thread(state.store.get, id, key.account, key.job)

    call = await state.calls.prepare(key, path.ids, await dialect.read(body, recall))
    generation = Generation(call, state.adapters, state.engines, state.store, state.background)
    headers = {IGNORED_HEADER: ", ".join(call.notes["ignored"])} if "ignored" in call.notes else {}
    try:
        if call.chat.stream:
            writer = dialect.writer(call, generation.candidates)
            events = await unless_client_leaves(request, start_stream(generation, writer))
            if events is None:
                return Response(status_code=_LEFT)
            return EventStreamResponse(events, writer.failed, headers)  # type: ignore[return-value]
        if not await unless_client_leaves(request, _run_whole(generation)):
            return Response(status_code=_LEFT)
        answer = msgspec.json.encode(dialect.whole(call, generation.candidates))
        return Response(answer, media_type="application/json", headers=headers)
    finally:
        generation.discard()


async def _run_whole(generation: Generation) -> bool:
    async with generation:
        await generation.run_whole()
    return True


async def list_models(state: GatewayState, request: Request) -> Response:
    """OpenAI's list of what a call can name."""
    key = await state.authenticator.authenticate(request)
    return JSONResponse({"object": "list", "data": await state.models.listing(key)})


async def read_json(request: Request) -> Any:
    """The body. Raises BadRequest when it is not JSON."""
    return decoded(await read_body(request))


async def read_body(request: Request) -> bytes:
    """The bytes of a body. Raises BadRequest when the client left before they were there."""
    message = await request.receive()  # most bodies are one message, and the loops of `Request.body` are for several
    if message["type"] == "http.request" and not message.get("more_body"):
        return message.get("body", b"")
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await request.receive()
    raise BadRequest("The client left before its request was whole.")


def decoded(raw: bytes) -> Any:
    """A body's JSON. Raises BadRequest when it is none, or nests too deep for what is done with it later."""
    try:
        body = msgspec.json.decode(raw)
    except RecursionError as error:
        raise BadRequest(_TOO_DEEP) from error
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper_than(body, MAX_DEPTH):
        raise BadRequest(_TOO_DEEP)
    return body


def _deeper_than(body: Any, levels: int) -> bool:
    """Whether lists and objects nest deeper than so many levels; level by level, because recursion is what is to be avoided."""
    level = [body]
    for _ in range(levels):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, (dict, list)) for item in level)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None after cancelling it because the client closed its connection.

    Looked at from WATCH_SECONDS on: most of what is quick is over by then, and a task of its own costs more than some of it.
    """
    task, left = asyncio.current_task(), False
    leaving: list[asyncio.Task[None]] = []

    async def watch() -> None:
        nonlocal left
        await client_left(request.receive)
        left = True
        if task is not None:
            task.cancel()

    starting = asyncio.get_running_loop().call_later(
        WATCH_SECONDS, lambda: leaving.append(asyncio.create_task(watch()))
    )
    try:
        return await work
    except asyncio.CancelledError:
        if left and task is not None and task.uncancel() == 0:
            return None
        raise
    finally:
        starting.cancel()
        for watching in leaving:
            watching.cancel()
