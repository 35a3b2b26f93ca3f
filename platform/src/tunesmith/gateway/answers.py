"""Reading what an upstream answered, whole or streamed, in the three dialects, for the record.

The client gets the upstream's bytes; of these only what a record needs is read, as it goes by. `Answer` grows with `feed` (a stream)
or `read` (a whole body). Log-probabilities are kept where given, ids there are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from tunesmith.errors import TunesmithError

_FINISHED = re.compile(rb'"finish_reason": ?"')
_LEAST = -1e30
"""Stands for every log-probability below it; records hold 32-bit floats."""
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


class UpstreamFailed(TunesmithError):
    """The upstream cannot be reached, or its answer makes no sense."""

    status, code, reason = 502, "UNAVAILABLE", "upstream_failed"


@dataclass
class PassedCandidate:
    """One candidate of an upstream's answer."""

    index: int
    pieces: list[str] = field(default_factory=list)
    """Of the content."""
    reasoning: str = ""
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """Other fields of the message (`refusal`, `audio`, ...)."""
    finish_reason: str | None = None
    logprobs: list[float] = field(default_factory=list)

    @property
    def content(self) -> str:
        """The text so far."""
        return "".join(self.pieces)

    @property
    def message(self) -> dict[str, Any]:
        """The assistant message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, **self.extra}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call for _, call in sorted(self.tool_calls.items())]
        return message

    def call(self, position: int, id: str | None, name: str | None, arguments: str | None) -> None:
        """Add a piece of a tool call."""
        call = self.tool_calls.setdefault(
            position, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = id or call["id"]
        call["function"]["name"] += name or ""
        call["function"]["arguments"] += arguments or ""


class Answer:
    """What has come of an upstream's answer. One subclass per dialect."""

    def __init__(self) -> None:
        self.candidates: dict[int, PassedCandidate] = {}
        self.usage: dict[str, Any] = {}
        self.id = ""
        self.ended = False
        """A stream said that it is whole; from here on nothing may reach the client before the record is committed."""
        self._tail = b""
        self._held: list[bytes] = []

    def candidate(self, index: int = 0) -> PassedCandidate:
        """The candidate of that number, made if need be."""
        found = self.candidates.get(index)
        if found is None:
            found = self.candidates[index] = PassedCandidate(index)
        return found

    def read(self, body: bytes) -> None:
        """Take a whole answer. Raises UpstreamFailed when it is not one of this dialect."""
        try:
            self._whole(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamFailed(f"The upstream's answer is not what this route gives: {error}.") from error

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a stream and return those to send now; the rest, from the event that ends it, is `held`.

        Raises UpstreamFailed for an event that is not JSON of this dialect.
        """
        block, start, cut = self._tail + data, -len(self._tail), 0 if self.ended else len(data)
        if not self.ended:
            before = self._before_end(block)
            if before and self._events(block[:before]):
                block, start = block[before:], start + before
        lines = block.split(b"\n")
        self._tail = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                ended = self.ended
                try:
                    if line.startswith((b"data: [DONE]", b"data:[DONE]")):
                        self.ended = True
                    else:
                        self._event(line[5:])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise UpstreamFailed(f"The upstream streamed an event that cannot be read: {error}.") from error
                if self.ended and not ended:
                    cut = max(0, start)
            start += len(line) + 1
        self._held.append(data[cut:])
        return data[:cut]

    @property
    def held(self) -> bytes:
        """What must be sent once the record is committed."""
        return b"".join(self._held)

    def _whole(self, body: bytes) -> None:
        raise NotImplementedError

    def _event(self, data: bytes) -> None:
        raise NotImplementedError

    def _before_end(self, block: bytes) -> int:
        """How many bytes of whole lines come before what may be the last event; a guess, which `_events` checks."""
        return block.rfind(b"\n") + 1

    def _events(self, lines: bytes) -> bool:
        """Take many events at once where that is possible; False, with nothing taken, where they must be read one by one."""
        return False


class _LogprobToken(Struct, gc=False):
    logprob: float = 0.0


class _Logprobs(Struct, gc=False):
    content: list[_LogprobToken] | None = None
    token_logprobs: list[float | None] | None = None

    def values(self) -> list[float]:
        if self.content is not None:
            return [token.logprob for token in self.content]
        return [value or 0.0 for value in self.token_logprobs or ()]


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _ChatChoice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: dict[str, Any] | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _ChatAnswer(Struct, gc=False):
    choices: list[_ChatChoice]
    id: str | None = None
    usage: dict[str, Any] | None = None


class _ChatChunk(Struct, gc=False):
    choices: list[_ChatChoice] = []
    id: str | None = None
    usage: dict[str, Any] | None = None


class ChatAnswer(Answer):
    """OpenAI chat completions."""

    _answer = msgspec.json.Decoder(_ChatAnswer)
    _chunk = msgspec.json.Decoder(_ChatChunk)

    def _whole(self, body: bytes) -> None:
        answer = self._answer.decode(body)
        self.id, self.usage = answer.id or "", answer.usage or {}
        for position, choice in enumerate(answer.choices):
            candidate = self.candidate(choice.index or position)
            message = {key: value for key, value in (choice.message or {}).items() if value is not None}
            for name in ("content", "reasoning_content", "role"):
                value = message.pop(name, "")
                if name == "content":
                    candidate.pieces = [value] if isinstance(value, str) else []
                elif name == "reasoning_content":
                    candidate.reasoning = value if isinstance(value, str) else ""
            candidate.extra = message
            self._end(candidate, choice)

    def _before_end(self, block: bytes) -> int:
        last = _FINISHED.search(block)
        return block.rfind(b"\n", 0, last.start() if last else len(block)) + 1

    def _events(self, lines: bytes) -> bool:
        try:
            chunks = self._chunk.decode_lines((b"\n" + lines).replace(b"\ndata:", b"\n"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False  # a comment, another field, [DONE], or what is no JSON
        for chunk in chunks:
            for choice in chunk.choices:
                if choice.finish_reason is not None:
                    return False
        for chunk in chunks:
            self._take(chunk)
        return True

    def _event(self, data: bytes) -> None:
        self._take(self._chunk.decode(data))

    def _take(self, chunk: _ChatChunk) -> None:
        self.id = chunk.id or self.id
        if chunk.usage:
            self.usage = chunk.usage
        for choice in chunk.choices:
            candidate, delta = self.candidates.get(choice.index) or self.candidate(choice.index), choice.delta
            if delta is not None:
                if delta.content:
                    candidate.pieces.append(delta.content)
                if delta.reasoning_content or delta.reasoning:
                    candidate.reasoning += delta.reasoning_content or delta.reasoning or ""
                if delta.refusal:
                    candidate.extra["refusal"] = candidate.extra.get("refusal", "") + delta.refusal
                if delta.tool_calls:
                    for position, call in enumerate(delta.tool_calls):
                        function = call.function or _Function()
                        number = position if call.index is None else call.index
                        candidate.call(number, call.id, function.name, function.arguments)
            if choice.logprobs is not None:
                candidate.logprobs += choice.logprobs.values()
            if choice.finish_reason is not None:
                candidate.finish_reason = choice.finish_reason
                self.ended = True

    def _end(self, candidate: PassedCandidate, choice: _ChatChoice) -> None:
        if choice.logprobs is not None:
            candidate.logprobs += choice.logprobs.values()
        candidate.finish_reason = choice.finish_reason or candidate.finish_reason


class _ResponsesAnswer(Struct, gc=False):
    output: list[dict[str, Any]]
    id: str | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None


class _ResponsesEvent(Struct, gc=False):
    type: str = ""
    delta: Any = None
    response: msgspec.Raw = msgspec.Raw(b"null")


class ResponsesAnswer(Answer):
    """OpenAI Responses. A stream's last event holds the whole answer; deltas count only where it never comes."""

    _answer = msgspec.json.Decoder(_ResponsesAnswer)
    _one = msgspec.json.Decoder(_ResponsesEvent)

    def _whole(self, body: bytes) -> None:
        self._take(self._answer.decode(body))

    def _event(self, data: bytes) -> None:
        event = self._one.decode(data)
        if event.type == "response.output_text.delta" and isinstance(event.delta, str):
            self.candidate().pieces.append(event.delta)
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            self.candidates.clear()
            self._take(self._answer.decode(event.response))
            self.ended = True

    def _take(self, answer: _ResponsesAnswer) -> None:
        self.id, self.usage = answer.id or "", answer.usage or {}
        candidate = self.candidate()
        for item in answer.output:
            kind = item.get("type")
            if kind == "message":
                parts = [part for part in _objects(item.get("content")) if part.get("type") == "output_text"]
                candidate.pieces += [str(part.get("text", "")) for part in parts]
                for part in parts:
                    values = [token.get("logprob") for token in _objects(part.get("logprobs"))]
                    candidate.logprobs += [float(v) for v in values if isinstance(v, int | float)]
            elif kind == "function_call":
                name, arguments = str(item.get("name", "")), str(item.get("arguments", ""))
                candidate.call(len(candidate.tool_calls), str(item.get("call_id", "")), name, arguments)
            elif kind == "reasoning":
                texts = _objects(item.get("content")) or _objects(item.get("summary"))
                candidate.reasoning += "".join(str(part.get("text", "")) for part in texts)
        if answer.status == "incomplete":
            why = str((answer.incomplete_details or {}).get("reason", "incomplete"))
            candidate.finish_reason = "length" if why == "max_output_tokens" else why
        elif answer.status in ("completed", None):
            candidate.finish_reason = "tool_calls" if candidate.tool_calls else "stop"


class _MessagesAnswer(Struct, gc=False):
    content: list[dict[str, Any]]
    id: str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class _MessagesDelta(Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _MessagesEvent(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _MessagesAnswer | None = None
    content_block: dict[str, Any] | None = None
    delta: _MessagesDelta | None = None
    usage: dict[str, Any] | None = None


class MessagesAnswer(Answer):
    """Anthropic Messages."""

    _answer = msgspec.json.Decoder(_MessagesAnswer)
    _one = msgspec.json.Decoder(_MessagesEvent)

    def _whole(self, body: bytes) -> None:
        answer = self._answer.decode(body)
        self.id, self.usage = answer.id or "", answer.usage or {}
        for position, block in enumerate(answer.content):
            self._block(position, block)
            if block.get("type") == "tool_use":
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                self.candidate().call(position, None, None, arguments)
        self._stop(answer.stop_reason)

    def _event(self, data: bytes) -> None:
        event = self._one.decode(data)
        if event.message is not None:
            self.id, self.usage = event.message.id or "", event.message.usage or {}
        if event.type == "content_block_start" and event.content_block:
            self._block(event.index, event.content_block)
        elif event.type == "content_block_delta" and event.delta:
            candidate, delta = self.candidate(), event.delta
            candidate.pieces.append(delta.text or "")
            candidate.reasoning += delta.thinking or ""
            if delta.partial_json:
                candidate.call(event.index, None, None, delta.partial_json)
        elif event.type == "message_delta":
            self.usage = {**self.usage, **(event.usage or {})}
            if event.delta and event.delta.stop_reason:
                self._stop(event.delta.stop_reason)
                self.ended = True

    def _block(self, position: int, block: dict[str, Any]) -> None:
        candidate = self.candidate()
        if block.get("type") == "tool_use":
            candidate.call(position, str(block.get("id", "")), str(block.get("name", "")), None)
        elif block.get("type") == "text":
            candidate.pieces.append(str(block.get("text", "")))
        elif block.get("type") == "thinking":
            candidate.reasoning += str(block.get("thinking", ""))

    def _stop(self, reason: str | None) -> None:
        self.candidate().finish_reason = _FINISH.get(reason, reason) if reason else None


ANSWERS: dict[str, type[Answer]] = {
    "/chat/completions": ChatAnswer,
    "/responses": ResponsesAnswer,
    "/messages": MessagesAnswer,
}
"""By the path of the call."""


def counted_usage(answer: Answer, request_bytes: int) -> dict[str, Any]:
    """Usage in the chat form. Without the upstream's own figures it is estimated, four bytes to a token, and says so."""
    usage = answer.usage
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    prompt += _count(usage, "cache_creation_input_tokens") + _count(usage, "cache_read_input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    if not prompt and not completion:
        spelled = sum(_size(candidate) for candidate in answer.candidates.values())
        prompt, completion = -(-request_bytes // 4), -(-spelled // 4)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "estimated": True}
    return {**usage, "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def bounded(logprobs: list[float]) -> list[float]:
    """Log-probabilities that fit 32-bit floats, whatever an upstream gives."""
    if logprobs and not (min(logprobs) >= _LEAST and max(logprobs) <= -_LEAST):
        return [min(max(logprob, _LEAST), -_LEAST) for logprob in logprobs]
    return logprobs


def _size(candidate: PassedCandidate) -> int:
    calls = sum(len(call["function"]["arguments"]) for call in candidate.tool_calls.values())
    return len(candidate.content.encode(errors="replace")) + len(candidate.reasoning.encode(errors="replace")) + calls


def _count(usage: dict[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return 0


def _objects(value: Any) -> Sequence[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
