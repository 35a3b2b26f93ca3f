"""Streamed answers: what each engine event made visible, independent of the dialect, and the response that sends it.

A dialect's `Writer` turns deltas into server-sent events. The last of them leaves once the completion is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from tunesmith.errors import TunesmithError
from tunesmith.gateway.engines import EngineEvent
from tunesmith.gateway.errors import envelope, internal_error
from tunesmith.gateway.generation import Candidate, Generation


@dataclass(frozen=True, slots=True)
class Delta:
    """What one engine event added to the answer of its candidate."""

    event: EngineEvent
    candidate: Candidate
    reasoning: str
    content: str
    ended: bool
    """The candidate's message, tool calls included, is final and committed."""


class Writer(Protocol):
    """Turns the deltas of one call into server-sent events of a dialect."""

    def begin(self) -> bytes:
        """Events in front of the first delta."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """Events of one delta; may be empty."""
        ...

    def end(self) -> bytes:
        """Events behind the last delta."""
        ...

    def failed(self, error: TunesmithError) -> bytes:
        """Events of an error after the answer began."""
        ...


async def deltas(generation: Generation) -> AsyncGenerator[list[Delta], None]:
    """Run a generation and yield what each event added, events that arrived together in one list.

    Raises what the generation raises.
    """
    call = generation.call
    renderer, tools = call.target.base.renderer, bool(call.conversation.tools)
    plain = not tools and not renderer.syntax.reasoning  # then every piece of text can be sent as it comes
    sent = [[0, 0] for _ in generation.candidates]
    texts = [""] * len(sent)
    async with generation, aclosing(generation.run()) as events:  # type: ignore[type-var]
        async for arrived in events:
            found = []
            for event, candidate in arrived:
                before, ended = sent[candidate.index], candidate.stored and event.finish_reason is not None
                if plain and not ended:
                    before[1] += len(event.text)
                    found.append(Delta(event, candidate, "", event.text, ended))
                    continue
                if ended:
                    message = candidate.message
                    reasoning, content = message.get("reasoning_content") or "", message.get("content") or ""
                else:
                    texts[candidate.index] += event.text
                    partial = renderer.partial(texts[candidate.index], tools, call.prompt_ids)
                    reasoning, content = partial.reasoning_content, partial.content
                found.append(Delta(event, candidate, reasoning[before[0] :], content[before[1] :], ended))
                sent[candidate.index] = [len(reasoning), len(content)]
            yield found


async def start_stream(generation: Generation, writer: Writer) -> AsyncGenerator[bytes, None]:
    """Wait for the first event, so that an error before it is an HTTP error, and return the events to send.

    Raises what the generation raises.
    """
    written = _written(generation, writer)
    try:
        first = await anext(written)
    except BaseException:
        await written.aclose()
        raise
    return _with_first(first, written)


async def _written(generation: Generation, writer: Writer) -> AsyncGenerator[bytes, None]:
    begun = False
    async with aclosing(deltas(generation)) as found:
        async for arrived in found:
            pieces = [] if begun else [writer.begin()]
            pieces += [writer.delta(delta) for delta in arrived]
            begun = True
            written = b"".join(pieces)
            if written:
                yield written
    yield writer.end()


async def _with_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


class EventStreamResponse:
    """Sends events until they end or the client leaves; leaving closes the generator, which is how a cut is noticed.

    Starlette's own StreamingResponse cancels through anyio scopes, in which clean-up code cannot await anything.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        failed: Callable[[TunesmithError], bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`failed` writes an error after the answer began; OpenAI's envelope without it. `headers` go with the others."""
        self._events = events
        self._headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self._failed = failed or (lambda error: sse(envelope(error)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        headers += self._headers
        sending = asyncio.create_task(self._send(send, headers))
        leaving = asyncio.create_task(client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                async for piece in events:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TunesmithError as error:
                await send({"type": "http.response.body", "body": self._failed(error), "more_body": True})
            except OSError:
                return  # the connection is gone
            except Exception as error:  # noqa: BLE001 - the answer has begun: the stream is the only place left to say it
                body = self._failed(internal_error(error))
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def client_left(receive: Receive) -> None:
    """Return when the client closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def sse(content: dict[str, Any], event: str | None = None) -> bytes:
    """One server-sent event."""
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    return name + b"data: " + msgspec.json.encode(content) + b"\n\n"
