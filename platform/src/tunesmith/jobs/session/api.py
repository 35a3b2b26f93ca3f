"""How a session asks for what it wants done: this platform's own REST API, with the session's key.

The web process may be away (a restart, an update): a call is repeated, with growing pauses, until it answers, and the session says
that it waits. One that keeps answering that it failed is believed in the end. What the API refuses is raised as the error that it named, word for word.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tunesmith.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TunesmithError,
    Unauthenticated,
)

TIMEOUT_SECONDS = 120.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0
MOST_FAILURES = 20
"""Answers of 5xx to one call, some four minutes of them, after which the session's job fails and is tried again later."""
_ERRORS: dict[int, type[TunesmithError]] = {
    3: InvalidArgument,
    5: NotFound,
    6: AlreadyExists,
    7: PermissionDenied,
    8: ResourceExhausted,
    9: FailedPrecondition,
    16: Unauthenticated,
}
"""By gRPC number, as the control plane answers them."""


class Api:
    """The REST API of this platform.

    Args:
        base_url: where the web process listens.
        account: id of the account; paths that do not begin with a slash are below it.
        key: the session's bearer key.
        away: told once when the web process does not answer, with the reason, and once with "" when it does again.
        rest: waits for so many seconds; raises when the session is to stop.
    """

    def __init__(
        self,
        base_url: str,
        account: str,
        key: str,
        away: Callable[[str], Awaitable[None]],
        rest: Callable[[float], Awaitable[None]],
    ) -> None:
        self._base_url, self._root = base_url, f"/v1/accounts/{account}/"
        self._away, self._rest = away, rest
        self._client = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"}, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        """One resource or page, as JSON. Raises the error that the API named."""
        return json.loads(await self._call("GET", path, params=params))

    async def find(self, path: str) -> dict[str, Any] | None:
        """One resource, or None where there is none."""
        try:
            return await self.get(path)
        except NotFound:
            return None

    async def list(self, noun: str) -> list[dict[str, Any]]:
        """Every resource of a noun (`datasets`, `models`, ...), all pages."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self.get(noun, pageSize="200", pageToken=token)
            found += page.get(noun, [])
            token = page.get("nextPageToken", "")
            if not token:
                return found

    async def post(self, path: str, body: Any = None, **params: str) -> dict[str, Any]:
        """Ask for something; every create of ours may be repeated. Raises the error that the API named."""
        return json.loads(await self._call("POST", path, json=body or {}, params=params) or b"{}")

    async def download(self, url: str) -> bytes:
        """What lies behind a signed URL."""
        return await self._call("GET", url)

    async def upload(self, url: str, content: bytes) -> None:
        """Put bytes to a signed URL."""
        await self._call("PUT", url, data=content)

    async def upload_dataset(self, dataset: str, content: bytes) -> None:
        """Fill a dataset (id) with JSONL. The same rows again are fine."""

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            data.add_field("file", content, filename=f"{dataset}.jsonl", content_type="application/jsonl")
            return data

        await self._call("POST", f"datasets/{dataset}:upload", form=form)

    async def _call(
        self, method: str, path: str, *, form: Callable[[], aiohttp.FormData] | None = None, **options: Any
    ) -> bytes:
        if path.startswith("http"):
            url = path
        else:
            url = self._base_url + (path if path.startswith("/") else self._root + path)
        pause, told, failures = FIRST_PAUSE_SECONDS, False, 0
        while True:
            if form is not None:
                options["data"] = form()  # a form can be sent once
            try:
                async with self._client.request(method, url, **options) as answer:
                    content = await answer.read()
                    if answer.status < 400:
                        if told:
                            await self._away("")
                        return content
                    if answer.status < 500:
                        raise _refusal(answer.status, content, f"{method} {url.partition('?')[0]}")
                    reason = f"it answered {answer.status}: {_message(content)}"
                    failures += 1
                    if failures == MOST_FAILURES:
                        raise Internal(f"{method} {url.partition('?')[0]} failed {failures} times; {reason}")
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            if not told and pause > 1:  # a blip of less than a second or so is not worth a word
                await self._away(reason)
                told = True
            await self._rest(pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


def _refusal(status: int, content: bytes, what: str) -> TunesmithError:
    message = _message(content)
    try:
        code = json.loads(content)["code"]
    except (ValueError, TypeError, KeyError):
        code = {404: 5, 403: 7, 401: 16, 409: 6, 429: 8}.get(status, 3)
    return _ERRORS.get(code, InvalidArgument)(message or f"{what} was refused with {status}.")


def _message(content: bytes) -> str:
    try:
        body = json.loads(content)
        return str(body.get("message") or body["error"]["message"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return content[:300].decode(errors="replace")
