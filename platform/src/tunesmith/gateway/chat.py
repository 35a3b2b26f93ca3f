"""`POST …/chat/completions` and `GET …/models`, under every prefix that clients use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.generation import Generation
from tunesmith.gateway.paths import call_path
from tunesmith.gateway.requests import parse_chat
from tunesmith.gateway.responses import completion_object
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.streaming import ChunkStream, EventStreamResponse, client_left

T = TypeVar("T")

_LEFT = 499
"""Status of an answer that nobody reads any more (nginx's word for it)."""


async def chat_completions(state: GatewayState, request: Request) -> Response:
    """Answer a chat call, streamed or whole."""
    path = call_path(request)
    key = await state.authenticator.authenticate(request)
    parsed = parse_chat(await read_json(request))
    call = await state.calls.prepare(key, path.ids, parsed)
    generation = Generation(call, state.adapters, state.engines, state.store, state.background)
    try:
        if call.chat.stream:
            chunks = await unless_client_leaves(request, ChunkStream(generation).start())
            return EventStreamResponse(chunks) if chunks is not None else Response(status_code=_LEFT)  # type: ignore[return-value]
        ended = await unless_client_leaves(request, _run_whole(generation))
        return JSONResponse(completion_object(call, generation.candidates)) if ended else Response(status_code=_LEFT)
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
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    except ClientDisconnect as error:
        raise BadRequest("The client left before its request was whole.") from error


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None after cancelling it because the client closed its connection."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(client_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
