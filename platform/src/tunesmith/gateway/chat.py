"""`POST …/chat/completions` and `GET …/models`, under every prefix that clients use."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tunesmith.db.completions import CorrelationIds
from tunesmith.errors import NotFound
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.generation import Generation
from tunesmith.gateway.requests import parse_chat
from tunesmith.gateway.responses import completion_object
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.streaming import ChunkStream, EventStreamResponse, client_left

T = TypeVar("T")

_PREFIX = re.compile(
    r"(?:/v1|/inference/v1|/litellm-gateway(?:/v1)?)?"
    r"(?:/project_id/[^/]+)?"
    r"(?:/rollout_id/(?P<rollout_id>[^/]+)/invocation_id/(?P<invocation_id>[^/]+)/experiment_id/(?P<experiment_id>[^/]+)"
    r"/run_id/(?P<run_id>[^/]+)/row_id/(?P<row_id>[^/]+)(?:/encoded_base_url/[^/]+)?)?"
)
"""What may stand before `/chat/completions`. The base URL at the end is the client's own note: models are looked up here."""

_LEFT = 499
"""Status of an answer that nobody reads any more (nginx's word for it)."""


async def chat_completions(state: GatewayState, request: Request) -> Response:
    """Answer a chat call, streamed or whole."""
    ids = correlation_ids(request)
    key = await state.authenticator.authenticate(request)
    parsed = parse_chat(await read_json(request))
    call = await state.calls.prepare(key, ids, parsed)
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


def correlation_ids(request: Request) -> CorrelationIds:
    """The five ids in front of the path. Raises NotFound for a prefix that is none of ours."""
    prefix = "/" + request.path_params.get("prefix", "")
    match = _PREFIX.fullmatch(prefix.rstrip("/"))
    if match is None:
        raise NotFound(
            f"No route {request.url.path}. The five ids go /rollout_id/…/invocation_id/…/experiment_id/…/run_id/…/row_id/… "
            "in this order, behind /v1, /inference/v1, /litellm-gateway or nothing."
        )
    return CorrelationIds(**match.groupdict())


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
