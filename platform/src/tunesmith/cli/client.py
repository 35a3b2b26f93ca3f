"""Calls to the platform's API for commands, on the standard library alone: a command should not wait for imports."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tunesmith.cli.profile import Profile
from tunesmith.errors import TunesmithError, Unavailable

_SECONDS = 30


class ApiError(TunesmithError):
    """The platform refused; the message and the HTTP status are its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def call(profile: Profile, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One call; the answer's JSON object. Raises ApiError with the platform's message, Unavailable when nobody answers."""
    request = urllib.request.Request(
        f"{profile.api_base}{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {profile.api_key}", "Content-Type": "application/json"},
    )
    # No proxy: the platform is this machine, or one that the profile names on purpose.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            return json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            raise ApiError(_message(error), error.code) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"Nobody answers at {profile.api_base} ({reason}). Start the platform with `tunesmith up`."
        ) from error


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        body = json.loads(text)
        return str(body.get("message") or body["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP {error.code} {error.reason}: {text[:500]}"
