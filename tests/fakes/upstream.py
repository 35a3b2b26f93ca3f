"""An upstream of a passed-through call: answers the three dialects, whole and streamed, and does what a test tells it to.

The last user message says what to do: `error N`, `redirect`, `html`, `reset`, `huge`, `silent`, `text` (an event that is no JSON), `open` (a
stream without an end), `slow` (waits for `resume` in the middle); anything else is answered.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

LOGPROBS = [-0.25, -0.5, -1.0]


@dataclass
class FakeUpstream:
    """`seen` holds (path, headers, raw body) of every call, `sent` the bytes of the last answer."""

    url: str = ""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    sent: bytes = b""
    usage: bool = True
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Close the port and every connection."""
        self.resume.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.seen.append((request.path, {name.lower(): value for name, value in request.headers.items()}, raw))
        body = json.loads(raw)
        asked = _asked(body)
        word, _, rest = asked.partition(" ")
        if word == "error":
            return web.json_response(
                {"error": {"message": "upstream says no"}}, status=int(rest), headers={"retry-after": "7"}
            )
        if word == "redirect":
            return web.Response(status=307, headers={"location": "http://169.254.169.254/"})
        if word == "html":
            return web.Response(text="<html>hello</html>", content_type="text/html")
        if word == "silent":
            self.waiting.set()
            await self.resume.wait()
            return web.Response()
        kind = request.path.rsplit("/", 1)[-1]
        if body.get("stream"):
            return await self._stream(
                request, {"completions": _chat, "responses": _responses, "messages": _messages}[kind], word
            )
        whole = _of_n(WHOLE[kind], body.get("n") or 1)
        self.sent = json.dumps(whole if self.usage else {**whole, "usage": None}, indent=1).encode()
        if word == "reset":
            assert request.transport is not None
            response = web.StreamResponse(headers={"content-type": "application/json"})
            response.content_length = len(self.sent)
            await response.prepare(request)
            await response.write(self.sent[:100])
            request.transport.close()
            return response
        if word in ("huge", "bomb"):
            body = b'{"choices": "' + b"x" * 5_000_000 + b'"}'
            headers = {"content-type": "application/json"}
            if word == "bomb":
                body, headers["content-encoding"] = gzip.compress(body), "gzip"
            return web.Response(body=body, headers=headers)
        headers = {"x-request-id": "up-1", "x-ratelimit-remaining-tokens": "9", "set-cookie": "a=b", "server": "up"}
        return web.Response(body=self.sent, content_type="application/json", headers=headers)

    async def _stream(self, request: web.Request, events: Any, word: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        pieces = events(self.usage)
        if json.loads(self.seen[-1][2]).get("n") == 2:
            pieces = _two(pieces)
        self.sent = b"".join(pieces)
        for number, piece in enumerate(pieces):
            if number == 2 and word == "slow":
                self.waiting.set()
                await self.resume.wait()
            if number == 2 and word == "text":
                piece = b"data: {not json\n\n"
            if number == 2 and word == "reset":
                assert request.transport is not None
                request.transport.close()
                return response
            if number == 2 and word == "open":
                break
            for start in range(0, len(piece), 11):  # events arrive in pieces of any size
                await response.write(piece[start : start + 11])
        return response


def _of_n(whole: dict[str, Any], n: int) -> dict[str, Any]:
    if n == 1:
        return whole
    return {**whole, "choices": [{**whole["choices"][0], "index": index} for index in range(n)]}


def _two(events: list[bytes]) -> list[bytes]:
    """A chat stream of two candidates that say the same: every chunk of the first is followed by the second's."""
    first, second = b'"choices": [{"index": 0', b'"choices": [{"index": 1'
    return [
        piece for event in events for piece in ([event, event.replace(first, second)] if first in event else [event])
    ]


def _asked(body: dict[str, Any]) -> str:
    content = body["input"] if "input" in body else body["messages"][-1]["content"]
    return content if isinstance(content, str) else ""


CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
MESSAGE = {
    "role": "assistant",
    "content": "hello there",
    "refusal": None,
    "reasoning_content": "hm",
    "tool_calls": [CALL],
}
WHOLE: dict[str, dict[str, Any]] = {
    "completions": {
        "id": "up-chat",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": MESSAGE,
                "finish_reason": "tool_calls",
                "logprobs": {"content": [{"token": "x", "logprob": value, "top_logprobs": []} for value in LOGPROBS]},
            }
        ],
        "usage": USAGE,
    },
    "responses": {
        "id": "up-resp",
        "object": "response",
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {
                "type": "message",
                "content": [
                    {
                        "type": "output_text",
                        "text": "hello there",
                        "logprobs": [{"token": "x", "logprob": value} for value in LOGPROBS],
                    }
                ],
            },
            {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
        ],
        "usage": {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14},
    },
    "messages": {
        "id": "up-msg",
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hello there"},
            {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 6, "cache_read_input_tokens": 5, "output_tokens": 3},
    },
}


def _chat(usage: bool) -> list[bytes]:
    def choice(delta: dict[str, Any], logprobs: list[float], finish: str | None = None) -> dict[str, Any]:
        content = {"content": [{"token": "x", "logprob": value, "bytes": None} for value in logprobs]}
        return {"index": 0, "delta": delta, "logprobs": content if logprobs else None, "finish_reason": finish}

    first, second = {**CALL, "index": 0}, {"index": 0, "function": {"arguments": " 1}"}}
    first = {**first, "function": {"name": "add", "arguments": '{"a":'}}
    choices = [
        [choice({"role": "assistant", "content": "hello"}, LOGPROBS[:1])],
        [choice({"content": " there"}, LOGPROBS[1:2])],
        [choice({"reasoning_content": "hm"}, LOGPROBS[2:])],
        [choice({"tool_calls": [first]}, [])],
        [choice({"tool_calls": [second]}, [])],
        [choice({}, [], "tool_calls")],
    ]
    chunks: list[dict[str, Any]] = [{"id": "up-chat", "choices": item} for item in choices]
    if usage:
        chunks.append({"id": "up-chat", "choices": [], "usage": USAGE})
    return [b": ping\n\n", *[_data(chunk) for chunk in chunks], b"data: [DONE]\n\n"]


def _responses(usage: bool) -> list[bytes]:
    whole = WHOLE["responses"] if usage else {**WHOLE["responses"], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "up-resp", "output": []}},
        {"type": "response.output_text.delta", "delta": "hello "},
        {"type": "response.output_text.delta", "delta": "there"},
        {"type": "response.function_call_arguments.delta", "delta": '{"a": 1}'},
        {"type": "response.completed", "response": whole},
    ]
    return [f"event: {event['type']}\r\n".encode() + _data(event, b"\r\n") for event in events]


def _messages(usage: bool) -> list[bytes]:
    given = WHOLE["messages"]["usage"] if usage else {}
    start = {**WHOLE["messages"], "content": [], "stop_reason": None, "usage": {**given, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start if usage else {**start, "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hello"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " there"}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "call_1", "name": "add", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 3} if usage else None,
        },
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\n".encode() + _data(event) for event in events]


def _data(event: dict[str, Any], end: bytes = b"\n") -> bytes:
    return b"data: " + json.dumps(event).encode() + end * 2
