"""Reading what an upstream answered, whole or streamed, for the record: what all dialects share.

The client gets the upstream's bytes; of these only what a record needs is read, as it goes by. `Answer` grows with `feed` (a stream)
or `read` (a whole body). Log-probabilities are kept where given, ids there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from tunesmith.errors import TunesmithError


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
