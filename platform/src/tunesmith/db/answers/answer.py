"""What is read of an answer, in chat form, whatever the dialect: candidates, usage, the upstream's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not what they should be."""


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
        """The text."""
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
    """An upstream's answer, read. One subclass per dialect says what a whole body and an event mean."""

    def __init__(self) -> None:
        self.candidates: dict[int, PassedCandidate] = {}
        self.usage: dict[str, Any] = {}
        self.id = ""
        self.unreadable: str | None = None
        """Why reading stopped before the end. What came before counts."""

    def candidate(self, index: int = 0) -> PassedCandidate:
        """The candidate of that number, made if need be."""
        found = self.candidates.get(index)
        if found is None:
            found = self.candidates[index] = PassedCandidate(index)
        return found

    def read_whole(self, body: bytes) -> None:
        """Take a whole answer, or nothing of it where it is none of this dialect."""
        try:
            self._whole(body)
        except UNREADABLE as error:
            self.unreadable = str(error)

    def read_events(self, stream: bytes) -> None:
        """Take the events of a stream up to its end, to one that is cut, or to one that cannot be read."""
        if self._events(stream):
            return
        *lines, last = stream.split(b"\n")
        for line in lines:
            if not self._line(line):
                return
        reason = self.unreadable
        self._line(last)  # without its end: most likely cut, which is no fault
        self.unreadable = reason

    def _line(self, line: bytes) -> bool:
        if line.startswith(b"data:") and not line[5:].lstrip().startswith(b"[DONE]"):
            try:
                self._event(line[5:])
            except UNREADABLE as error:
                self.unreadable = str(error)
                return False
        return True

    def _events(self, stream: bytes) -> bool:
        """Take all events at once where that is possible; False, with nothing taken, where they must be read one by one."""
        del stream
        return False

    def _whole(self, body: bytes) -> None:
        raise NotImplementedError

    def _event(self, data: bytes) -> None:
        raise NotImplementedError


def objects(value: Any) -> Sequence[dict[str, Any]]:
    """The objects in a list; nothing where it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
