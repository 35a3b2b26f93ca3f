"""Calls to models that are not served here: the request goes to its upstream, the answer comes back byte for byte, and is recorded.

A record has no ids, so it is never trained; it is committed before the client has the last byte. What breaks on the way, the upstream's
errors included, is recorded as aborted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tunesmith import __version__
from tunesmith.db.answers import PassedCandidate, RawAnswer, bounded, counted_usage, read_answer
from tunesmith.db.completions import Completion, CompletionStatus
from tunesmith.errors import TunesmithError
from tunesmith.gateway.auth import Key, presented_key
from tunesmith.gateway.clock import now, record_id
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.paths import CallPath
from tunesmith.gateway.rollouts import Turn
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.streaming import EventStreamResponse
from tunesmith.gateway.upstreams import Upstream, UpstreamAnswer, is_ours
from tunesmith.gateway.watch import Stream, UpstreamFailed, usage_of_whole

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""An upstream's longest answer, whole or streamed."""
_TAIL_SECONDS = 10.0
"""How long a stream whose last event came may take to close (usage follows it)."""
_DIALECTS = {"completions": "chat", "responses": "responses", "messages": "messages"}
"""By the last part of the path."""
_BROKEN = (aiohttp.ClientError, ConnectionError, TimeoutError, OSError)
_SENT = [
    (name, name.encode())
    for name in (
        "accept",
        "user-agent",
        "anthropic-version",
        "anthropic-beta",
        "openai-organization",
        "openai-project",
        "openai-beta",
    )
]
"""Headers of the client that reach the upstream, and below what stands for those that it leaves out. No other does: the key that opens this platform is among them."""
_ALWAYS = {"accept": "*/*", "user-agent": f"tunesmith/{__version__}"}
_RETURNED = (
    b"request-id",
    b"x-request-id",
    b"retry-after",
    b"retry-after-ms",
    b"x-should-retry",
    b"openai-processing-ms",
)
_RETURNED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")


class UpstreamTimeout(UpstreamFailed):
    """The upstream did not answer in time."""

    status, reason = 504, "upstream_timeout"


async def pass_through(state: GatewayState, request: Request, key: Key, path: CallPath, body: Any) -> PassedCall | None:
    """The call, if its model is not served here and an upstream is named for it; None otherwise. It must be `run`.

    Raises what `Upstreams.find` and `Admission.admit` raise.
    """
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, str):
        return None
    model = model.removeprefix("fireworks_ai/")
    if is_ours(model, path.upstream is not None):
        return None
    upstream = await state.upstreams.find(key.account, model, path.upstream, request, body.get("api_key"))
    if upstream is None:
        return None
    rollout_id = path.ids.rollout_id
    await state.admission.admit(key, key.job, rollout_id)
    turn = await state.rollouts.begin((key.account, key.job, rollout_id)) if rollout_id else None
    return PassedCall(state, key, path, upstream, model, body, turn)


class PassedCall:
    """One call on its way to an upstream and back."""

    def __init__(
        self,
        state: GatewayState,
        key: Key,
        path: CallPath,
        upstream: Upstream,
        model: str,
        body: dict[str, Any],
        turn: Turn | None,
    ) -> None:
        self._state = state
        self._key = key
        self._ids = path.ids
        self._upstream = upstream
        self._model = model
        self._body = body
        self._turn = turn
        self._started, self._begun = now(), time.monotonic()
        self._id = f"passed-{record_id()}"
        n = body.get("n")
        self._candidates = n if isinstance(n, int) and n > 1 else 1
        self._size = 0
        self._parts: list[bytes] = []
        self._streamed = False
        self._usage: dict[str, Any] | None = None
        self._over = False
        self._notes: dict[str, Any] = {}

    async def run(self, request: Request, raw: bytes) -> Response:
        """Make the call, whose body is `raw`. Raises UpstreamFailed, UpstreamTimeout and what the guard of addresses raises."""
        last = request.scope["path"].rpartition("/")[2]
        self._dialect = self._notes["dialect"] = _DIALECTS[last]
        route = "/chat/completions" if last == "completions" else f"/{last}"
        try:
            response = await self._open(route, raw, request)
            try:
                if response.status < 300 and response.content_type == "text/event-stream":
                    events = self._events(response)
                    first = await anext(events)
                    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in _returned(response)}
                    return EventStreamResponse(_with_first(first, events), headers=headers)  # type: ignore[return-value]
                answer = await self._whole(response)
            except BaseException:
                response.close()
                raise
            response.release()
            return answer
        except BaseException as error:
            self._end(error)
            raise

    async def _open(self, route: str, raw: bytes, request: Request) -> UpstreamAnswer:
        self._size = len(raw)
        if presented_key(request) in raw:
            raise BadRequest(
                "The body holds the key that this call was made with, which is not passed on to an upstream. Take it out."
            )
        if "api_key" in self._body or "extra_headers" in self._body or self._body["model"] != self._model:
            raw = msgspec.json.encode({**_without_key(self._body), "model": self._model})
        given = dict(request.scope["headers"])
        headers = {name: given[raw_name].decode("latin-1") for name, raw_name in _SENT if raw_name in given}
        headers = {**_ALWAYS, **headers, "content-type": "application/json", "accept-encoding": "identity"}
        if self._upstream.key:
            bearer = given.get(b"authorization", b"").lower().startswith(b"bearer ")
            headers |= (
                {"authorization": f"Bearer {self._upstream.key}"} if bearer else {"x-api-key": self._upstream.key}
            )
        url = self._upstream.url(route)
        try:
            response = await self._state.upstreams.post(url, raw, headers)
        except _BROKEN as error:
            raise self._broken(error, "did not answer") from error
        if 300 <= response.status < 400:
            response.close()
            raise UpstreamFailed(
                f"The upstream {self._place} answered with a redirect ({response.status}), which is not followed. "
                "Give the address that it leads to as base URL."
            )
        return response

    async def _whole(self, response: UpstreamAnswer) -> Response:
        packed = "content-encoding" in response.headers  # unasked for; its length says nothing of what it unpacks to
        if not packed and (response.content_length or MAX_ANSWER_BYTES) < MAX_ANSWER_BYTES:
            try:
                body = await response.read()
            except _BROKEN as error:
                raise self._broken(error, "broke off in the middle of its answer") from error
        else:
            body = b"".join([data async for data in self._data(response)])
        if response.status >= 400:
            log.warning("The upstream %s refused a call to %s with %s.", self._place, self._model, response.status)
            self._notes |= {"error": body[:2000].decode(errors="replace"), "status": response.status}
            await self._store(CompletionStatus.ABORTED, "error")
        else:
            self._parts = [body]
            self._usage = usage_of_whole(self._dialect, body)
            if self._usage is None:  # not the usual shape, so it is read before it is believed
                read = read_answer(self._dialect, False, body)
                if read.unreadable is not None:
                    self._parts = []
                    raise UpstreamFailed(
                        f"The upstream {self._place} answered {response.status} with {response.content_type}: what it sent is not "
                        f"what this route gives: {read.unreadable}."
                    )
                self._usage = counted_usage(read, self._size)
            await self._store(CompletionStatus.COMPLETE)
        kind = response.headers.get("content-type", "application/json").encode("latin-1", "replace")
        return _Forwarded(body, response.status, [(b"content-type", kind), *_returned(response)])

    async def _events(self, response: UpstreamAnswer) -> AsyncGenerator[bytes, None]:
        """The bytes of the stream. Those from its last event on come once the record is committed."""
        stream = Stream(self._dialect, self._candidates)
        self._parts, self._streamed = stream.parts, True
        try:
            data = self._data(response)
            while not stream.ended:
                piece = await anext(data, None)
                ready = stream.close() if piece is None else stream.feed(piece)
                if ready:
                    yield ready
                if piece is None and not stream.ended:
                    raise UpstreamFailed(f"The upstream {self._place} ended its stream before the answer was whole.")
            try:
                async with asyncio.timeout(_TAIL_SECONDS):
                    async for piece in data:
                        stream.feed(piece)
            except (UpstreamFailed, TimeoutError) as error:
                log.info("The upstream %s broke off behind its last event: %s", self._place, error)
            self._usage = stream.usage()
            await self._store(CompletionStatus.COMPLETE)
            yield stream.held
        except BaseException as error:
            self._end(error)
            raise
        finally:
            response.close() if not response.content.is_eof() else response.release()

    async def _data(self, response: UpstreamAnswer) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come. Raises UpstreamFailed when they break off or never end."""
        received = 0
        try:
            async for data in response.content.iter_any():
                received += len(data)
                if received > MAX_ANSWER_BYTES:
                    raise UpstreamFailed(
                        f"The answer of the upstream {self._place} is larger than {MAX_ANSWER_BYTES} bytes; it was cut."
                    )
                yield data
        except _BROKEN as error:
            raise self._broken(error, "broke off in the middle of its answer") from error

    async def _store(self, status: CompletionStatus, finish_reason: str | None = None) -> None:
        """Commit what there is, one record a candidate, and give the turn back."""
        self._over = True
        try:
            await self._state.store.add(self._records(status, finish_reason))
        finally:
            if self._turn:
                self._turn.end(used=True)

    def _end(self, error: BaseException) -> None:
        """Record a call that ended in an error, or that the client left. Nothing is awaited: this task may be cancelled."""
        if self._over:
            return
        cut = not isinstance(error, Exception)
        if not cut:
            log.warning("A call to %s at %s failed: %s", self._model, self._place, error)
            self._notes["error"] = error.message if isinstance(error, TunesmithError) else type(error).__name__

        async def store() -> None:
            try:
                await self._store(CompletionStatus.ABORTED, "abort" if cut else "error")
            except TunesmithError as lost:
                log.error("The cut completion %s is lost: %s", self._id, lost.message)

        self._over = True
        self._state.background.spawn(store())

    def _records(self, status: CompletionStatus, finish_reason: str | None) -> list[Completion]:
        """What is committed: the answer as it came, to be read later. At once it is read where several candidates, which are a record
        each, were asked for, and where a job's budget needs figures that the upstream did not give."""
        if not self._parts:  # nothing was heard
            usage = (
                counted_usage(read_answer(self._dialect, False, b""), self._size) if finish_reason == "abort" else {}
            )
            return [self._record(PassedCandidate(0), status, finish_reason, usage, None)]
        raw = RawAnswer(self._dialect, self._streamed, self._parts, self._size)
        several = self._candidates > 1
        if not several and (self._usage is not None or self._key.job is None):
            return [self._record(None, status, finish_reason, self._usage or {}, raw)]
        answer = read_answer(self._dialect, self._streamed, b"".join(self._parts))
        heard = bool(answer.candidates) or finish_reason == "abort" or status is CompletionStatus.COMPLETE
        usage = self._usage or (counted_usage(answer, self._size) if heard else {})
        if not several:
            return [self._record(None, status, finish_reason, usage, raw)]
        self._notes["upstream_id"] = answer.id
        candidates = sorted(answer.candidates.values(), key=lambda candidate: candidate.index) or [PassedCandidate(0)]
        # The answer's usage is that of all candidates together: the first one's record holds it.
        return [
            self._record(candidate, status, finish_reason or candidate.finish_reason, {} if position else usage, None)
            for position, candidate in enumerate(candidates)
        ]

    def _record(
        self,
        candidate: PassedCandidate | None,
        status: CompletionStatus,
        finish_reason: str | None,
        usage: dict[str, Any],
        raw: RawAnswer | None,
    ) -> Completion:
        """`candidate`: None where it is left to the raw answer."""
        temperature = self._body.get("temperature")
        index = candidate.index if candidate else 0
        return Completion(
            id=f"{self._id}-{index}",
            created_at=self._started,
            account=self._key.account,
            job=self._key.job,
            ids=self._ids,
            turn=self._turn.number if self._turn else 0,
            index=index,
            model=self._model,
            base_model=str(self._upstream.base),
            policy_version=None,
            prompt_ids=[],
            sampled_ids=[],
            logprobs=bounded(candidate.logprobs) if candidate else [],
            temperature=float(temperature) if isinstance(temperature, int | float) else 1.0,
            finish_reason=finish_reason,
            status=status,
            request=_without_key(self._body),
            message=candidate.message if candidate else {},
            text=candidate.content if candidate else "",
            params={**self._notes, "provider": self._upstream.provider},
            usage=usage,
            latency=time.monotonic() - self._begun,
            answer=raw,
        )

    def _broken(self, error: BaseException, what: str) -> UpstreamFailed:
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(f"The upstream {self._place} {what}: it sent nothing for too long. Try again later.")
        return UpstreamFailed(f"The upstream {self._place} {what} ({type(error).__name__}: {error}).")

    @property
    def _place(self) -> str:
        return str(self._upstream.base)


def _without_key(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("api_key", "extra_headers")}


def _returned(response: UpstreamAnswer) -> list[tuple[bytes, bytes]]:
    found = [(name.lower(), value) for name, value in response.raw_headers]
    return [(name, value) for name, value in found if name in _RETURNED or name.startswith(_RETURNED_PREFIXES)]


class _Forwarded(Response):
    """A whole answer whose headers are bytes already; Starlette's way there and back costs as much as the rest of an answer."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.body, self.status_code, self.background = body, status, None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


async def _with_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()
