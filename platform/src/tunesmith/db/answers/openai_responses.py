"""OpenAI Responses. A stream's last event holds the whole answer; deltas count only where it never comes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tunesmith.db.answers.answer import Answer, objects


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

    def _take(self, answer: _ResponsesAnswer) -> None:
        self.id, self.usage = answer.id or "", answer.usage or {}
        candidate = self.candidate()
        for item in answer.output:
            kind = item.get("type")
            if kind == "message":
                parts = [part for part in objects(item.get("content")) if part.get("type") == "output_text"]
                candidate.pieces += [str(part.get("text", "")) for part in parts]
                for part in parts:
                    values = [token.get("logprob") for token in objects(part.get("logprobs"))]
                    candidate.logprobs += [float(v) for v in values if isinstance(v, int | float)]
            elif kind == "function_call":
                name, arguments = str(item.get("name", "")), str(item.get("arguments", ""))
                candidate.call(len(candidate.tool_calls), str(item.get("call_id", "")), name, arguments)
            elif kind == "reasoning":
                texts = objects(item.get("content")) or objects(item.get("summary"))
                candidate.reasoning += "".join(str(part.get("text", "")) for part in texts)
        if answer.status == "incomplete":
            why = str((answer.incomplete_details or {}).get("reason", "incomplete"))
            candidate.finish_reason = "length" if why == "max_output_tokens" else why
        elif answer.status in ("completed", None):
            candidate.finish_reason = "tool_calls" if candidate.tool_calls else "stop"
