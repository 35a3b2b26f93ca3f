"""OpenAI chat completions: the form in which calls are recorded, so there is nothing to translate; and their streamed chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunesmith.errors import TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.dialects.dialect import Recall
from tunesmith.gateway.errors import envelope
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.requests import ParsedChat, parse_chat
from tunesmith.gateway.responses import (
    completion_object,
    finish_reason,
    logprob_writer,
    raw_output,
    usage,
    wants_logprobs,
)
from tunesmith.gateway.streaming import Delta, Writer, sse

_DONE = b"data: [DONE]\n\n"


class Chat:
    """`POST …/chat/completions`."""

    name: ClassVar[str] = "chat"
    error = staticmethod(envelope)

    async def read(self, body: Any, recall: Recall) -> ParsedChat:
        """Check the body; it is in chat form already."""
        return parse_chat(body)

    def whole(self, call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """`chat.completion`."""
        return completion_object(call, candidates)

    def writer(self, call: Call, candidates: Sequence[Candidate]) -> Writer:
        """Writes `chat.completion.chunk`s."""
        return ChunkWriter(call, candidates)


class ChunkWriter:
    """A role chunk, pieces as they are sampled, tool calls and the reason for the end once the completion is committed."""

    def __init__(self, call: Call, candidates: Sequence[Candidate]) -> None:
        self._call = call
        self._candidates = candidates
        self._logprobs = [logprob_writer(call) for _ in candidates]
        self._spoke = [False] * len(candidates)

    def begin(self) -> bytes:
        """The role of every candidate. No content yet: an answer of tool calls only has none."""
        extra = {"prompt_token_ids": self._call.prompt_ids} if self._call.chat.return_token_ids else {}
        choices = [_choice(index, {"role": "assistant"}) for index in range(len(self._candidates))]
        return b"".join(self._chunk([choice], **extra) for choice in choices)

    def delta(self, delta: Delta) -> bytes:
        """The chunks of one event; the ended candidate's last one says why it ended."""
        call, event, index = self._call, delta.event, delta.candidate.index
        fields: dict[str, Any] = {}
        if event.token_ids and wants_logprobs(call):
            fields["logprobs"] = self._logprobs[index].write(
                event.token_ids, event.logprobs, event.model_logprobs, event.top_logprobs
            )
        if event.token_ids and call.chat.return_token_ids:
            fields["token_ids"] = event.token_ids
        words: dict[str, Any] = {}
        if delta.reasoning:
            words["reasoning_content"] = delta.reasoning
        if delta.content or (delta.ended and not self._spoke[index] and delta.candidate.message.get("content") == ""):
            words["content"] = delta.content
            self._spoke[index] = True
        chunks = [self._chunk([_choice(index, words, **fields)])] if words or fields else []
        if delta.ended:
            chunks += self._end(delta.candidate)
        return b"".join(chunks)

    def end(self) -> bytes:
        """OpenAI's chunk without choices, for clients that asked for it; the others find usage in the last choice's chunk."""
        if not self._call.chat.stream_options.include_usage:
            return _DONE
        return self._chunk([], usage=usage(self._call, self._candidates)) + _DONE

    def failed(self, error: TunesmithError) -> bytes:
        """An error after the answer began."""
        return sse(envelope(error))

    def _end(self, candidate: Candidate) -> list[bytes]:
        chunks = [self._chunk([_choice(candidate.index, words)]) for words in _call_deltas(self._call, candidate)]
        choice = _choice(candidate.index, {}, finish_reason=finish_reason(self._call, candidate))
        if self._call.chat.raw_output:
            choice["raw_output"] = raw_output(self._call, candidate)
        last = all(other.stored for other in self._candidates)
        apart = self._call.chat.stream_options.include_usage
        extra = {"usage": usage(self._call, self._candidates)} if last and not apart else {}
        chunks.append(self._chunk([choice], **extra))
        return chunks

    def _chunk(self, choices: list[dict[str, Any]], **extra: Any) -> bytes:
        chunk = {
            "id": self._call.id,
            "object": "chat.completion.chunk",
            "created": int(self._call.started),
            "model": self._call.target.name,
            "choices": choices,
            **extra,
        }
        return sse(chunk)


def _call_deltas(call: Call, candidate: Candidate) -> list[dict[str, Any]]:
    """Tool calls as OpenAI streams them: index, id and name first, then the arguments."""
    deltas: list[dict[str, Any]] = []
    for number, tool_call in enumerate(candidate.message.get("tool_calls") or []):
        function = tool_call["function"]
        opened = {**tool_call, "index": number, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [opened]})
        deltas.append({"tool_calls": [{"index": number, "function": {"arguments": function["arguments"]}}]})
    if deltas and call.chat.legacy_functions:
        deltas.append({"function_call": candidate.message["tool_calls"][0]["function"]})
    return deltas


def _choice(
    index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None, **extra: Any
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs, **extra}
