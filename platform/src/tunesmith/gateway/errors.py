"""The OpenAI error envelope, and the errors of inference that name a parameter.

{"error": {"message": "…", "type": "invalid_request_error", "code": "context_length_exceeded", "param": "messages"}}
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.disk import trouble
from tunesmith.errors import InvalidArgument, NotFound, TunesmithError, Unavailable

log = logging.getLogger(__name__)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    410: "gone_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    507: "insufficient_storage_error",
}


class BadRequest(InvalidArgument):
    """A field of the request body is wrong; `param` names it."""

    def __init__(self, message: str, param: str | None = None, reason: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.reason = param, reason


class ModelNotFound(NotFound):
    """No model of that name is served here."""

    param, reason = "model", "model_not_found"


class EngineLost(Unavailable):
    """The engine's connection broke: it crashed, or was stopped."""


class AdapterNotLoaded(NotFound):
    """The engine does not hold the adapter (any more); it can be loaded again."""


def envelope(error: TunesmithError) -> dict[str, Any]:
    """The body of an error answer."""
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, "server_error"),
            "code": getattr(error, "reason", error.code.lower()),
            "param": getattr(error, "param", None),
        }
    }


def error_response(error: TunesmithError, body: Callable[[TunesmithError], dict[str, Any]] = envelope) -> JSONResponse:
    """The answer to a failed call. Clients retry 409 by default, and a spent budget's 429; neither can help: the header tells them."""
    final = error.status == 409 or getattr(error, "reason", None) == "budget_exhausted"
    headers = {"x-should-retry": "false"} if final else None
    return JSONResponse(body(error), error.status, headers)


def internal_error(error: Exception) -> TunesmithError:
    """Our own fault, or a full disk, as something that a user may see: a number to look for in the log, no stack trace."""
    if full := trouble(error):
        log.error("%s", full.message)
        return full
    number = uuid.uuid4().hex[:8]
    log.error("Unexpected error %s", number, exc_info=error)
    return TunesmithError(
        f"Something failed inside Tunesmith. Its log (logs/ in the data folder) has the details: {number}."
    )


def translated(
    handler: Callable[[Request], Awaitable[Response]], body: Callable[[TunesmithError], dict[str, Any]] = envelope
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: errors become answers here and nowhere else, in the envelope that `body` makes."""

    @functools.wraps(handler)
    async def translate(request: Request) -> Response:
        try:
            return await handler(request)
        except TunesmithError as error:
            return error_response(error, body)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it was, the caller gets an envelope, the log the trace
            return error_response(internal_error(error), body)

    return translate
