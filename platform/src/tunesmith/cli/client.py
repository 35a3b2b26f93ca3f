"""Calls to the platform's API for commands, on the standard library alone: a command should not wait for imports."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith.cli.profile import Profile
from tunesmith.errors import InvalidArgument, TunesmithError, Unavailable

_SECONDS = 30
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
"""What can be an id at all; which of these a noun takes is the platform's to say."""


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


def resource_path(profile: Profile, noun: str, identity: str | None = None) -> str:
    """The API's path of a resource, given by id or by full name; without one, of all of that noun. Raises as `resource_id`."""
    if not identity:
        return f"/v1/accounts/{profile.account_id}/{noun}"
    account = identity.split("/")[1] if "/" in identity else profile.account_id
    return f"/v1/accounts/{account}/{noun}/{resource_id(noun, identity)}"


def resource_id(noun: str, identity: str) -> str:
    """The id of a resource that a person gave by id or by full name (`accounts/{account}/{noun}/{id}`).

    Raises InvalidArgument when it can be neither: such text does not belong into a URL.
    """
    *parents, found = identity.split("/")
    named = len(parents) == 3 and parents[0] == "accounts" and _ID.fullmatch(parents[1]) and parents[2] == noun
    if (parents and not named) or not _ID.fullmatch(found):
        raise InvalidArgument(
            f"{identity[:200]!r} is neither an id nor the full name of one of {noun}. An id has letters, digits, '-', '.' and '_', "
            f"as in my-id; a full name is accounts/ACCOUNT/{noun}/ID."
        )
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
    except http.client.InvalidURL as error:
        raise InvalidArgument(f"{profile.api_base}{path} is no URL that can be asked: {error}.") from error
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
