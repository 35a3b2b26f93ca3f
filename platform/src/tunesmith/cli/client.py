"""Calls to the platform's API for commands, on the standard library alone: a command should not wait for imports."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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
    return json.loads(fetch(profile, method, path, body) or b"{}")


def fetch(profile: Profile, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    """One call; the answer as it is. Raises as `call`."""
    with opened(profile, method, path, body) as response:
        return response.read()


def all_pages(profile: Profile, path: str, key: str, **query: str) -> list[dict[str, Any]]:
    """Everything of a collection, whose pages hold it under `key`. Raises as `call`."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = call(
            profile, "GET", f"{path}?{urllib.parse.urlencode({'pageSize': '200', **query, 'pageToken': token})}"
        )
        found += page.get(key) or []
        token = page.get("nextPageToken") or ""
        if not token:
            return found


@contextmanager
def opened(
    profile: Profile,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    silence: float = _SECONDS,
) -> Iterator[http.client.HTTPResponse]:
    """One call, to be read inside the `with`; given up after `silence` seconds without a byte. Raises as `call`."""
    request = urllib.request.Request(
        f"{profile.api_base}{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {profile.api_key}", "Content-Type": "application/json", **(headers or {})},
    )
    # No proxy: the platform is this machine, or one that the profile names on purpose.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=silence) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:
            raise ApiError(_message(error), error.code) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
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
