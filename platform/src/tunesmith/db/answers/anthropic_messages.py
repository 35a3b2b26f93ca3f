"""Anthropic Messages."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tunesmith.db.answers.answer import Answer

_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


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
