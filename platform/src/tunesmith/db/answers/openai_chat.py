"""OpenAI chat completions."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tunesmith.db.answers.answer import UNREADABLE, Answer, PassedCandidate


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

    def _events(self, stream: bytes) -> bool:
        """Chunks are decoded by the thousand in one call where there is nothing else between them."""
        lines = stream.partition(b"\ndata: [DONE]")[0]
        try:
            chunks = self._chunk.decode_lines((b"\n" + lines).replace(b"\ndata:", b"\n"))
        except UNREADABLE:
            return False  # a comment, another field, an event that was cut or is no JSON
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
            if choice.finish_reason:
                candidate.finish_reason = choice.finish_reason

    def _end(self, candidate: PassedCandidate, choice: _ChatChoice) -> None:
        if choice.logprobs is not None:
            candidate.logprobs += choice.logprobs.values()
        candidate.finish_reason = choice.finish_reason or candidate.finish_reason
