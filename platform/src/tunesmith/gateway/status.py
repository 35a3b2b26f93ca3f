"""`GET …/status` and `GET …/health`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith import __version__
from tunesmith.db.rollout_logs import LogLine
from tunesmith.gateway.chat import unless_client_leaves
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.tracing import Query

LONGEST_WAIT = 60.0
"""Seconds of a long-poll."""
_LEFT = 499


async def get_status(state: GatewayState, request: Request) -> Response:
    """The status of a rollout, null while none was posted. With `wait` the answer comes as soon as the status is terminal."""
    key = await state.authenticator.authenticate(request)
    key.require_reading()
    query = Query(request, {"rollout_id", "wait"})
    rollout_id = query.text("rollout_id")
    if rollout_id is None:
        raise BadRequest("rollout_id is missing: whose status?", "rollout_id")
    wait = query.number("wait", 0.0, 0.0, LONGEST_WAIT)
    asked = state.states.status(key.account, key.job, rollout_id, wait)
    if wait:
        found = await unless_client_leaves(request, _answered(asked))
        if found is None:
            return Response(status_code=_LEFT)
        line = found[0]
    else:
        line = await asked
    return JSONResponse(
        {
            "rollout_id": rollout_id,
            "status": line.status if line else None,
            "message": line.message if line else None,
            "extras": line.extras if line else None,
        }
    )


async def _answered(asked: Coroutine[Any, Any, LogLine | None]) -> tuple[LogLine | None]:
    """In a tuple, so that no status and a client that left are told apart."""
    return (await asked,)


async def health(_state: GatewayState, _request: Request) -> Response:
    """That the gateway answers. Needs no key."""
    return JSONResponse({"status": "healthy", "service": "tunesmith", "version": __version__})
