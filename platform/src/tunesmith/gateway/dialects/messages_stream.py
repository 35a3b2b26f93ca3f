"""The events of a streamed message, in Anthropic's order: start, each content block opened, grown and closed, its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tunesmith.errors import TunesmithError
from tunesmith.gateway.dialects.messages_output import MessageObject
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.streaming import Delta, sse

_EMPTY = {"thinking": {"type": "thinking", "thinking": "", "signature": ""}, "text": {"type": "text", "text": ""}}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_object(error: TunesmithError) -> dict[str, Any]:
    """The body of an error answer, in Anthropic's envelope; `code` and `param` are ours."""
    kind = _ERRORS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    detail = {"type": kind, "message": error.message, "code": getattr(error, "reason", error.code.lower())}
    param = getattr(error, "param", None)
    return {"type": "error", "error": {**detail, "param": param} if param else detail}


class MessagesWriter:
    """Thinking and text stream as they are sampled, tool uses once they are whole."""

    def __init__(self, message: MessageObject, candidates: Sequence[Candidate]) -> None:
        self._message = message
        self._candidates = candidates
        self._open: str | None = None
        """The type of the block that is growing."""
        self._blocks = 0
        """Blocks opened so far."""

    def begin(self) -> bytes:
        """The message without content."""
        return _event("message_start", message=self._message.begun()) + _event("ping")

    def delta(self, delta: Delta) -> bytes:
        """What one engine event added; the last one brings the tool uses."""
        pieces = []
        if delta.reasoning:
            pieces += self._opened("thinking")
            pieces.append(self._grown({"type": "thinking_delta", "thinking": delta.reasoning}))
        if delta.content:
            pieces += self._opened("text")
            pieces.append(self._grown({"type": "text_delta", "text": delta.content}))
        if delta.ended:
            pieces += self._closed()
            for block in self._message.blocks(delta.candidate):
                if block["type"] == "tool_use":
                    pieces += self._tool_use(block)
        return b"".join(pieces)

    def end(self) -> bytes:
        """Why it ended and what it used."""
        candidate = self._candidates[0]
        reason, stop = self._message.stop(candidate)
        ended = {"stop_reason": reason, "stop_sequence": stop}
        return _event("message_delta", delta=ended, usage=self._message.usage(candidate)) + _event("message_stop")

    def failed(self, error: TunesmithError) -> bytes:
        """An error in the middle."""
        return sse(error_object(error), "error")

    def _opened(self, kind: str) -> list[bytes]:
        """Open a block for text of this kind, if it is not open."""
        if self._open == kind:
            return []
        pieces = self._closed()
        self._open = kind
        pieces.append(_event("content_block_start", index=self._blocks, content_block=_EMPTY[kind]))
        self._blocks += 1
        return pieces

    def _grown(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _closed(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_event("content_block_stop", index=self._blocks - 1)]

    def _tool_use(self, block: dict[str, Any]) -> list[bytes]:
        index, self._blocks = self._blocks, self._blocks + 1
        source = {"type": "input_json_delta", "partial_json": msgspec.json.encode(block["input"]).decode()}
        return [
            _event("content_block_start", index=index, content_block={**block, "input": {}}),
            _event("content_block_delta", index=index, delta=source),
            _event("content_block_stop", index=index),
        ]


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)
