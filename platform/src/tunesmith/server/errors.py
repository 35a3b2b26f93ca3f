"""The one place where errors of the control plane become answers: `{"code": gRPC number, "message", "details": []}`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.disk import trouble
from tunesmith.errors import TunesmithError

log = logging.getLogger(__name__)

_GRPC = {
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
_UNEXPECTED = "Something failed inside Tunesmith. Its log (logs/ in the data folder) has the details: error {}."
_HTTP = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 6, 413: 8, 429: 8, 503: 14}


def add_error_handlers(app: FastAPI) -> None:
    """Have the app answer every error in our shape."""
    app.add_exception_handler(TunesmithError, _tunesmith_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(UnexpectedErrors)


def answer(status: int, code: int, message: str, details: Sequence[Any] = ()) -> JSONResponse:
    """An error as every route answers it; `code` is the gRPC number."""
    # Clients repeat a 409 by themselves, which cannot help here: the header tells them.
    headers = {"x-should-retry": "false"} if status == 409 else None
    return JSONResponse({"code": code, "message": message, "details": list(details)}, status, headers)


async def _tunesmith_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TunesmithError)
    if error.status >= 500:
        log.error("%s %s failed: %s", request.method, request.url.path, error.message, exc_info=error)
    return answer(error.status, _GRPC[error.code], error.message)


async def _validation_error(_request: Request, error: Exception) -> Response:
    """Name each wrong field; what was sent is not repeated, as it may be a secret."""
    assert isinstance(error, RequestValidationError)
    violations = [{"field": _field(item["loc"]), "description": _description(item)} for item in error.errors()]
    message = "; ".join(f"{item['field']}: {item['description']}" for item in violations[:5])
    return answer(400, 3, f"The request is not valid: {message}.", [{"fieldViolations": violations}])


def _field(location: Sequence[str | int]) -> str:
    inner = [str(part) for part in location[1:]]
    return ".".join(inner) or str(location[0])


def _description(item: dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "this option is not known, so it would have no effect; remove it"
    if item["type"] == "json_invalid":
        return "the body is not valid JSON"
    return str(item["msg"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.method} is not possible on {request.url.path}.",
    }.get(error.status_code, str(error.detail))
    response = answer(error.status_code, _HTTP.get(error.status_code, 2), message)
    response.headers.update(error.headers or {})
    return response


async def _gone(request: Request, _error: Exception) -> Response:
    log.info("The client of %s %s went away before its request was whole", request.method, request.url.path)
    return Response(status_code=499)


class UnexpectedErrors:
    """ASGI middleware: what nobody foresaw goes to the log with a number, and only the number to the client.

    A middleware and not a handler, because Starlette raises again after such a handler, which logs twice and cuts the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            full = trouble(error)
            if full and not started and scope["type"] == "http":
                log.error("%s %s failed: %s", scope.get("method"), scope.get("path"), full.message)
                await answer(full.status, _GRPC[full.code], full.message)(scope, receive, send)
                return
            number = uuid.uuid4().hex[:8]
            log.error("Unexpected error %s in %s %s", number, scope.get("method"), scope.get("path"), exc_info=error)
            if started or scope["type"] != "http":
                raise
            await answer(500, 13, _UNEXPECTED.format(number))(scope, receive, send)
