"""Server-sent events of a streamed call: a role chunk, content as it is sampled, a last chunk once the completion is committed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.types import Receive, Scope, Send

from tunesmith.errors import TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.engines import EngineEvent
from tunesmith.gateway.errors import envelope, internal_error
from tunesmith.gateway.generation import Candidate, Generation
from tunesmith.gateway.responses import finish_reason, logprob_writer, raw_output, usage, wants_logprobs

_DONE = b"data: [DONE]\n\n"


class ChunkStream:
    """Writes the chunks of one call."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._call: Call = generation.call
        self._writers = [logprob_writer(self._call) for _ in generation.candidates]
        self._sent = [""] * len(generation.candidates)

    async def start(self) -> AsyncGenerator[bytes, None]:
        """Wait for the first event, so that an error before it is an HTTP error, and return the events to send.

        Raises what the generation raises.
        """
        chunks = self._chunks()
        try:
            first = await anext(chunks)
        except BaseException:
            await chunks.aclose()
            raise
        return _with_first(first, chunks)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        async with self._generation, aclosing(self._generation.run()) as events:  # type: ignore[type-var]
            begun = False
            async for event, candidate in events:
                if not begun:
                    yield b"".join(self._role(index) for index in range(len(self._sent)))
                    begun = True
                piece = self._piece(event, candidate)
                if piece:
                    yield piece
        yield self._usage() + _DONE

    def _role(self, index: int) -> bytes:
        extra = {"prompt_token_ids": self._call.prompt_ids} if self._call.chat.return_token_ids else {}
        return self._chunk([_choice(index, {"role": "assistant", "content": ""})], **extra)

    def _piece(self, event: EngineEvent, candidate: Candidate) -> bytes:
        """The chunks of one event; the ended candidate's last one says why it ended."""
        call, index = self._call, candidate.index
        fields: dict[str, Any] = {}
        if wants_logprobs(call) and event.token_ids:
            fields["logprobs"] = self._writers[index].write(
                event.token_ids, event.logprobs, event.model_logprobs, event.top_logprobs
            )
        if call.chat.return_token_ids and event.token_ids:
            fields["token_ids"] = event.token_ids
        text = self._new_text(candidate)
        chunks = []
        if text or fields:
            chunks.append(self._chunk([_choice(index, {"content": text}, **fields)]))
        if candidate.stored:
            chunks += self._end(candidate)
        return b"".join(chunks)

    def _new_text(self, candidate: Candidate) -> str:
        if candidate.stored:
            visible = candidate.message.get("content") or ""
        else:
            tools = bool(self._call.conversation.tools)
            visible = self._call.target.base.renderer.partial(candidate.text, tools, self._call.prompt_ids).content
        text = visible[len(self._sent[candidate.index]) :]
        self._sent[candidate.index] += text
        return text

    def _end(self, candidate: Candidate) -> list[bytes]:
        chunks = []
        calls = candidate.message.get("tool_calls") or []
        if calls:
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            chunks.append(self._chunk([_choice(candidate.index, {"tool_calls": numbered})]))
        choice = _choice(candidate.index, {}, finish_reason=finish_reason(candidate))
        if self._call.chat.raw_output:
            choice["raw_output"] = raw_output(self._call, candidate)
        last = all(other.stored for other in self._generation.candidates)
        apart = self._call.chat.stream_options.include_usage
        extra = {"usage": usage(self._call, self._generation.candidates)} if last and not apart else {}
        chunks.append(self._chunk([choice], **extra))
        return chunks

    def _usage(self) -> bytes:
        """OpenAI's chunk without choices, for clients that asked for it; the others find usage in the last choice's chunk."""
        if not self._call.chat.stream_options.include_usage:
            return b""
        return self._chunk([], usage=usage(self._call, self._generation.candidates))

    def _chunk(self, choices: list[dict[str, Any]], **extra: Any) -> bytes:
        chunk = {
            "id": self._call.id,
            "object": "chat.completion.chunk",
            "created": int(self._call.started),
            "model": self._call.target.name,
            "choices": choices,
            **extra,
        }
        return _event(chunk)


class EventStreamResponse:
    """Sends chunks until they end or the client leaves; leaving closes the generator, which is how a cut is noticed.

    Starlette's own StreamingResponse cancels through anyio scopes, in which clean-up code cannot await anything.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
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
        async with aclosing(self._chunks) as chunks:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TunesmithError as error:
                await send({"type": "http.response.body", "body": _event(envelope(error)), "more_body": True})
            except OSError:
                return  # the connection is gone
            except Exception as error:  # noqa: BLE001 - the answer has begun: the stream is the only place left to say it
                body = _event(envelope(internal_error(error)))
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def client_left(receive: Receive) -> None:
    """Return when the client closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _with_first(first: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        yield first
        async for chunk in chunks:
            yield chunk


def _choice(
    index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None, **extra: Any
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs, **extra}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
