"""An ASGI app around an async function: `POST /init` starts it in the background, `GET /health` says that the server is there.

    async def rollout(request: InitRequest) -> None: ...
    app = agent_app(rollout)          # uvicorn server:app

The app needs no framework. Its own work lies in `eval_protocol.agents.work`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import iscoroutinefunction
from typing import Any

from pydantic import ValidationError

from eval_protocol.agents.work import AgentFunction, Full, Work
from eval_protocol.errors import UsageError
from eval_protocol.models.remote import InitRequest
from eval_protocol.tracing.route import TracingGateway, gateway_of, log_gateway

LARGEST_BODY = 32 * 2**20
"""Bytes of an `/init` body: a long conversation with images."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def agent_app(function: AgentFunction, *, max_concurrent: int = 64, max_waiting: int = 1024) -> AgentApp:
    """Make a server of `async def rollout(request: InitRequest) -> None`.

    When the function returns, the rollout has finished; when it raises, it has failed, with the code that fits the exception. What it
    logs (through any logger, at the levels that the program has set) is posted for its rollout. It may return a Status to decide itself.

    Args:
        max_concurrent: rollouts at work at once; more wait.
        max_waiting: rollouts that may wait; more are answered with 429.

    Raises:
        UsageError: not an async function, or a limit below 1.
    """
    if not iscoroutinefunction(function) and not iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise UsageError(f"agent_app needs an async function (async def), not {function!r}.")
    if max_concurrent < 1 or max_waiting < 0:
        raise UsageError("agent_app: max_concurrent must be at least 1, max_waiting at least 0.")
    return AgentApp(Work(function, max_concurrent, max_waiting))


class AgentApp:
    """The ASGI application; `agent_app` makes it."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection of the server's."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            status, answer, headers = await self._answer(scope, receive)
            content = json.dumps(answer).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                *headers,
            ]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.work.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path not in ("/init", "/health"):
            return 404, _error("There are POST /init and GET /health here."), []
        if path == "/health":
            if scope["method"] not in ("GET", "HEAD"):
                return 405, _error("Use GET."), [(b"allow", b"GET")]
            return 200, {"status": "healthy", **self.work.counts()}, []
        if scope["method"] != "POST":
            return 405, _error("Use POST."), [(b"allow", b"POST")]
        body = await _body(receive)
        if body is None:
            return 413, _error(f"The body is larger than {LARGEST_BODY} bytes."), []
        try:
            request = InitRequest.model_validate_json(body)
        except ValidationError as error:
            return 400, _invalid(error), []
        gateway = _gateway(request)
        if gateway is None:
            message = "model_base_url is missing, and no gateway is set (FW_TRACING_GATEWAY_BASE_URL): the rollout's end could not be told."
            return 400, _error(message, "model_base_url"), []
        rollout_id = request.metadata.rollout_id
        try:
            started, state = self.work.start(request, gateway)
        except Full as error:
            return 429, _error(str(error)), [(b"retry-after", b"5")]
        return (202 if started else 200), {"rollout_id": rollout_id, "status": state}, []


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None when it is too large."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(pieces)


def _gateway(request: InitRequest) -> TracingGateway | None:
    if request.model_base_url:
        return gateway_of(request.model_base_url, request.api_key)
    return log_gateway()


def _invalid(error: ValidationError) -> dict[str, Any]:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return _error(f"{field or 'The body'}: {first['msg']}", field or None)


def _error(message: str, field: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, **({"field": field} if field else {})}}
