"""What the tracing routes share: who reads what, their query parameters, bodies of bounded size, errors with a `detail`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tunesmith.errors import TunesmithError
from tunesmith.gateway.auth import Key, KeyKind
from tunesmith.gateway.errors import BadRequest, envelope, internal_error
from tunesmith.gateway.state import GatewayState

DISCARD_BYTES = 64 * 2**20
"""So much of a refused body is read and thrown away, so that its sender gets to read the refusal."""
_LONGEST_HOURS = 24.0 * 366 * 100


class TooLarge(TunesmithError):
    """A body above its limit."""

    status, code, reason = 413, "RESOURCE_EXHAUSTED", "body_too_large"


def scope_of(key: Key) -> tuple[str | None, str | None]:
    """Account and job whose records a key reads; None where it reads those of all."""
    return (None, None) if key.kind is KeyKind.INTERNAL else (key.account, key.job)


def detailed(
    state: GatewayState, handler: Callable[[GatewayState, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """A tracing handler's endpoint: its errors carry `detail` beside the gateway's envelope, since clients of traces print that."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(state, request)
        except TunesmithError as error:
            known = error
        except Exception as error:  # noqa: BLE001 - the edge: whatever it was, the caller gets an envelope, the log the trace
            known = internal_error(error)
        return JSONResponse({**envelope(known), "detail": known.message}, known.status)

    return endpoint


async def read_limited(request: Request, limit: int, setting: str) -> bytes:
    """The body, never more than `limit` bytes of it in memory. Raises TooLarge, BadRequest when the client left."""
    body, seen = bytearray(), 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen <= limit:
                body += chunk
            else:
                body.clear()
                if seen > DISCARD_BYTES:
                    break
    except ClientDisconnect as error:
        raise BadRequest("The client left before its request was whole.") from error
    if seen > limit:
        raise TooLarge(
            f"The body is larger than the {limit} bytes that one post may have; nothing of it was kept. Post shorter messages, "
            f"or have the operator raise {setting}."
        )
    return bytes(body)


class Query:
    """Query parameters, each read once and checked; one that no route reads is an error. All raise BadRequest."""

    def __init__(self, request: Request, known: set[str]) -> None:
        self._values = request.query_params
        unknown = sorted(set(self._values) - known)
        if unknown:
            raise BadRequest(
                f"{', '.join(unknown)}: no parameter of this route, so it would have no effect. It takes {', '.join(sorted(known))}.",
                unknown[0],
                "unsupported_parameter",
            )

    def all(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return [value for value in self._values.getlist(name) if value]

    def text(self, name: str) -> str | None:
        """A text, None where absent or empty."""
        return self._values.get(name) or None

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number in [low, high]."""
        value = self._values.get(name)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise BadRequest(f"{name} = {value[:40]!r} is not a number from {low:g} to {high:g}.", name)
        return number

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        number = self.number(name, default, low, high)
        if number != int(number):
            raise BadRequest(f"{name} = {number:g} is not a whole number.", name)
        return int(number)

    def flag(self, name: str) -> bool:
        """True, or False where absent."""
        value = (self._values.get(name) or "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise BadRequest(f"{name} = {value[:40]!r} is neither true nor false.", name)
        return value in ("true", "1")

    def span(self) -> tuple[float | None, float | None]:
        """Unix seconds between which records are asked for: `hours_back`, `from_timestamp`, `to_timestamp` (ISO 8601, UTC unless it says)."""
        hours = self.number("hours_back", math.inf, 0.0, _LONGEST_HOURS) if self.text("hours_back") else None
        since, until = self._time("from_timestamp"), self._time("to_timestamp")
        if hours is not None:
            since = max(since or 0.0, datetime.now(UTC).timestamp() - hours * 3600)
        return since, until

    def _time(self, name: str) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            time = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        except ValueError as error:
            raise BadRequest(f"{name} = {value[:40]!r} is not a time such as 2026-01-31T12:00:00Z.", name) from error
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
