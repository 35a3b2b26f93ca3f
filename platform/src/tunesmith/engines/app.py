"""The Engine API over HTTP (`docs/reference/seams.md`): Starlette routes around any `Engine`.

Errors are JSON with their status as long as nothing was sent; after the first event of a stream an error is its last line.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.engines.engine import CandidateEvent, Engine, Generation
from tunesmith.engines.wire import AbortRequest, GenerateRequest, LoadRequest, ScoreRequest, UnloadRequest, parse
from tunesmith.errors import TunesmithError, Unauthenticated


def create_app(engine: Engine, key: str) -> ASGIApp:
    """The engine's web application. Every route but `/health` asks for `Authorization: Bearer {key}`."""

    async def generate(request: Request) -> Response:
        return EventStream(engine.generate(parse(GenerateRequest, await request.body())))

    async def score(request: Request) -> Response:
        body = parse(ScoreRequest, await request.body())
        return JSONResponse({"logprobs": await engine.score(body.model, body.token_ids)})

    async def load(request: Request) -> Response:
        body = parse(LoadRequest, await request.body())
        return JSONResponse({"name": body.name, "sha256": await engine.load(body.name, body.path)})

    async def unload(request: Request) -> Response:
        await engine.unload(parse(UnloadRequest, await request.body()).name)
        return JSONResponse({})

    async def abort(request: Request) -> Response:
        engine.abort(parse(AbortRequest, await request.body()).request_id)
        return JSONResponse({})

    async def info(_: Request) -> Response:
        return JSONResponse(engine.info().model_dump())

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/generate": generate, "/score": score, "/load": load, "/unload": unload, "/abort": abort,
    }  # fmt: skip
    routes = [Route(path, route, methods=["POST"]) for path, route in posts.items()]
    routes += [Route("/info", info), Route("/health", health)]
    app = Starlette(
        routes=routes,
        exception_handlers={
            TunesmithError: _tunesmith_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    return BearerKey(app, key)


class BearerKey:
    """Lets a request through when it carries the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 instead of the application when the key is missing or wrong."""
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                error = Unauthenticated(
                    "The engine's key is missing or wrong. Send `Authorization: Bearer` with engine.key."
                )
                await _error_response(error.status, error.code, error.message)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class EventStream(Response):
    """Sends a generation's events as they come and cancels it when the caller goes away."""

    def __init__(self, generation: Generation) -> None:
        # Not Response.__init__: that would announce the length of a body.
        self.status_code = 200
        self.background = None
        self.media_type = "application/x-ndjson"
        self.init_headers()
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream; the status line waits for the first event, so that an early error has its own status."""
        watch = asyncio.create_task(_cancel_on_disconnect(receive, self._generation))
        try:
            await self._stream(scope, receive, send)
        finally:
            watch.cancel()
            self._generation.cancel()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            while events := await self._generation.next_events():
                if not started:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    started = True
                lines = b"".join(encode_event(event) for event in events)
                await send({"type": "http.response.body", "body": lines, "more_body": True})
        except TunesmithError as error:
            if not started:
                await _error_response(error.status, error.code, error.message)(scope, receive, send)
                return
            await send(
                {"type": "http.response.body", "body": _encode(_error(error.code, error.message)), "more_body": True}
            )
        if started:
            await send({"type": "http.response.body", "body": b""})


async def _cancel_on_disconnect(receive: Receive, generation: Generation) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    generation.cancel()


def encode_event(event: CandidateEvent) -> bytes:
    """One line of the stream."""
    record: dict[str, Any] = {
        "index": event.index,
        "token_ids": event.token_ids,
        "logprobs": event.logprobs,
        "model_logprobs": event.model_logprobs,
        "text": event.text,
        "finish_reason": event.finish_reason,
    }
    if event.top_logprobs is not None:
        record["top_logprobs"] = event.top_logprobs
    if event.usage is not None:
        record["usage"] = {
            "prompt_tokens": event.usage.prompt_tokens,
            "cached_tokens": event.usage.cached_tokens,
            "completion_tokens": event.usage.completion_tokens,
        }
    return _encode(record)


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _error_response(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(_error(code, message), status_code=status)


def _tunesmith_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TunesmithError)
    return _error_response(error.status, error.code, error.message)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "NOT_FOUND" if error.status_code == 404 else "INVALID_ARGUMENT"
    message = f"{request.method} {request.url.path}: {error.detail}. The routes are in docs/reference/seams.md."
    return _error_response(error.status_code, code, message)


def _unexpected(_: Request, error: Exception) -> Response:
    message = f"The engine failed: {type(error).__name__}: {error}. See its log."
    return _error_response(500, "INTERNAL", message)
