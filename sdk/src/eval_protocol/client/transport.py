"""HTTP to one platform: bearer key, retries with backoff, errors that say what, where and what next.

The key goes to the platform's own origin only: redirects are not followed, and signed URLs are called without it.
What is retried: no connection, 408, 429 and 5xx; `x-should-retry` and `retry-after` of the answer are obeyed. A POST is
retried like the rest because every create carries an id chosen here; `Refused.retried` tells the caller that a 409 may be
the echo of its own first try.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from eval_protocol import __version__
from eval_protocol.client.errors import BrokenAnswer, Missing, NotAllowed, Refused, Taken, Unreachable

MAX_RETRIES = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
RETRIED_STATUSES = {408, 429}

Body = Callable[[], Any]
"""Makes the request body anew for each try (a form or an open file can be sent only once)."""


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    status: int
    headers: dict[str, str]
    """Lower-case names."""
    content: bytes


class Transport:
    """Calls to one platform. Use as `async with`."""

    def __init__(
        self, api_base: str, api_key: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.api_base = api_base.rstrip("/")
        self._key = api_key
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        self._session = aiohttp.ClientSession(headers={"User-Agent": f"tunesmith-eval/{__version__}"})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, what: str, method: str, path: str, *, json: Any = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """One JSON call. `what` opens the error message ("Creating dataset 'x'"). Raises PlatformError's branches."""
        body: Body | None = None if json is None else (lambda: {"json": json})
        answer = await self.send(what, method, path, body=body, params=params)
        return _object(what, self.api_base, answer)

    async def send(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        params: dict[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> Answer:
        """Call `path` of the platform with the key. `body` gives the keyword arguments of one try (`json=`, `data=`)."""
        return await self._tried(what, method, f"{self.api_base}{path}", body, params, timeout_seconds, with_key=True)

    async def send_signed(
        self,
        what: str,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_seconds: float = 600.0,
    ) -> Answer:
        """Call a signed URL, which carries its own permission and may belong to another host: without the key."""

        def body() -> dict[str, Any]:
            return {"data": content, "headers": headers or {}}

        return await self._tried(what, method, url, body, None, timeout_seconds, with_key=False)

    @asynccontextmanager
    async def stream(self, what: str, path: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a long-lived GET (server-sent events). One try; the caller reconnects."""
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=120)
        url = f"{self.api_base}{path}"
        try:
            async with self._open.get(
                URL(url, encoded=True),
                headers={**headers, **self._bearer()},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _refusal(what, url, response.status, await response.read(), retried=False)
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{what} failed: the connection to {self.api_base} broke ({_words(error)}).") from error

    async def _tried(
        self,
        what: str,
        method: str,
        url: str,
        body: Body | None,
        params: dict[str, str] | None,
        timeout_seconds: float,
        *,
        with_key: bool,
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=10)
        for attempt in range(MAX_RETRIES + 1):
            arguments = body() if body else {}
            headers = {**arguments.pop("headers", {}), **(self._bearer() if with_key else {})}
            try:
                async with self._open.request(
                    method,
                    URL(url, encoded=True),
                    params=params,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    **arguments,
                ) as response:
                    content = await response.read()
                    answer = Answer(
                        response.status, {name.lower(): value for name, value in response.headers.items()}, content
                    )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if attempt == MAX_RETRIES:
                    raise _unreachable(what, url, error) from error
                await self._sleep(_wait_seconds(attempt, None))
                continue
            if answer.status < 300:
                return answer
            if attempt == MAX_RETRIES or not _is_worth_retrying(answer):
                raise _refusal(what, url, answer.status, content, retried=attempt > 0)
            await self._sleep(_wait_seconds(attempt, answer))
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Transport is used outside `async with`.")
        return self._session

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}


def _is_worth_retrying(answer: Answer) -> bool:
    hint = answer.headers.get("x-should-retry")
    if hint in {"true", "false"}:
        return hint == "true"
    return answer.status in RETRIED_STATUSES or answer.status >= 500


def _wait_seconds(attempt: int, answer: Answer | None) -> float:
    backoff = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS)
    try:
        asked = float(answer.headers.get("retry-after", "")) if answer else 0.0
    except ValueError:
        return backoff
    return asked if 0 < asked <= LONGEST_RETRY_AFTER_SECONDS else backoff


def _object(what: str, api_base: str, answer: Answer) -> dict[str, Any]:
    if not answer.content.strip():
        return {}
    try:
        value = json.loads(answer.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BrokenAnswer(
            f"{what} failed: {api_base} answered {answer.status} with something that is not a JSON object. "
            "Check that the address is a Tunesmith platform."
        )
    return value


def _unreachable(what: str, url: str, error: Exception) -> Unreachable:
    origin = URL(url).origin()
    return Unreachable(
        f"{what} failed: nothing answers at {origin} ({_words(error)}). "
        "Start the platform with `tunesmith up`, or point FIREWORKS_API_BASE and FIREWORKS_API_KEY at the right one."
    )


def _refusal(what: str, url: str, status: int, content: bytes, *, retried: bool) -> Refused:
    reason = _reason(content) or "no reason given"
    where = URL(url).with_query(None)
    kinds: dict[int, type[Refused]] = {401: NotAllowed, 403: NotAllowed, 404: Missing, 409: Taken}
    advice = {
        401: " Check the key: `tunesmith up` prints which profile holds it; FIREWORKS_API_BASE and FIREWORKS_API_KEY override it.",
        403: " The key does not allow this; use one of the account that owns the resource.",
    }.get(status, "")
    if 300 <= status < 400:
        advice = " Redirects are not followed, because the key must not leave its host; use the final address."
    if status >= 500:
        advice = (
            " The platform's own log (`logs/` in its data folder) has the cause; running the command again is safe."
        )
    # 400 is about what was sent, whose author does not need to read an address first.
    told = "" if status == 400 else f" {where} answered {status}:"
    message = f"{what} failed:{told} {reason.rstrip('.')}.{advice}"
    return kinds.get(status, Refused)(message, status=status, reason=reason, retried=retried)


def _reason(content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        return text[:500]
    if isinstance(value, dict):
        inner = value.get("error", value)
        found = (
            (inner.get("message") or inner.get("detail") or value.get("detail")) if isinstance(inner, dict) else inner
        )
        if found:
            return str(found)
    return text[:500]


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
