"""The bytes of a passed-through answer on their way to the client, looked at no closer than a record needs.

What must be known before the last of them leaves: whether the answer is whole, and what it used. Everything else is read from the kept
bytes when somebody asks for the record (`db.answers`). Bytes of an unusual shape are read at once, one event after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from tunesmith.db.answers import ANSWERS, given_usage
from tunesmith.errors import TunesmithError

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HEAD_BYTES = 4096
_TAIL_BYTES = 65_536
_FIRST_BYTES = 65_536
_BLANK_BYTES = 100
"""Most blanks in front of a key of a body that is indented."""
_DONE = (b"data: [DONE]", b"data:[DONE]")


class UpstreamFailed(TunesmithError):
    """The upstream cannot be reached, or its answer makes no sense."""

    status, code, reason = 502, "UNAVAILABLE", "upstream_failed"


class _Ended(Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None


class _ChatEvent(Struct, gc=False):
    choices: list[_Ended] | None = None


class _Stop(Struct, gc=False):
    stop_reason: str | None = None


class _TypedEvent(Struct, gc=False):
    type: str = ""
    delta: Any = None


class _MessagesEvent(Struct, gc=False):
    type: str = ""
    delta: _Stop | None = None


class _Usage(Struct, gc=False):
    usage: dict[str, Any] | None = None


_usage = msgspec.json.Decoder(_Usage)
_chat_event = msgspec.json.Decoder(_ChatEvent)
_typed_event = msgspec.json.Decoder(_TypedEvent)
_messages_event = msgspec.json.Decoder(_MessagesEvent)


def _chat_ends(data: bytes) -> list[int]:
    return [choice.index for choice in _chat_event.decode(data).choices or () if choice.finish_reason]


def _responses_ends(data: bytes) -> list[int]:
    return (
        [0]
        if _typed_event.decode(data).type in ("response.completed", "response.incomplete", "response.failed")
        else []
    )


def _messages_ends(data: bytes) -> list[int]:
    event = _messages_event.decode(data)
    return (
        [0] if event.type == "message_delta" and event.delta is not None and event.delta.stop_reason is not None else []
    )


@dataclass(frozen=True)
class _Shape:
    """How a dialect's answers look from afar."""

    key: bytes
    """Without it no body is a whole answer."""
    marks: Sequence[bytes]
    """One of them is in the event that ends a stream. Within a text they could not stand: quotes are escaped there."""
    begins: bytes
    """How an event begins, and below: what lies between two events, and how many lines one has."""
    lines: int
    ends: Callable[[bytes], list[int]]
    """The candidates that an event's data, decoded, says to be whole."""
    usage_first: bytes = b""
    """What the event holds with which a part of the usage comes first."""

    def is_plain(self, block: bytes) -> bool:
        """Whether a block is nothing but whole events of JSON objects, as far as their ends tell."""
        joints = block.count(b"}\n\n" + self.begins)
        return (
            block.startswith(self.begins)
            and block.endswith(b"}\n\n")
            and block.count(b"\n") == self.lines * (joints + 1)
        )


_SHAPES = {
    "chat": _Shape(
        b'"choices"', (b'"finish_reason":"', b'"finish_reason": "'), begins=b"data: {", lines=2, ends=_chat_ends
    ),
    "responses": _Shape(
        b'"output"',
        (b'"response.completed"', b'"response.incomplete"', b'"response.failed"'),
        begins=b"event: ",
        lines=3,
        ends=_responses_ends,
    ),
    "messages": _Shape(
        b'"content"',
        (b'"message_delta"',),
        begins=b"event: ",
        lines=3,
        ends=_messages_ends,
        usage_first=b'"message_start"',
    ),
}


def usage_of_whole(dialect: str, body: bytes) -> dict[str, Any] | None:
    """The usage that stands at the end of a whole answer; None for a body that is not seen at once to be one, which must be read.

    `"usage"` is looked for from the end. What follows it must close the one object that the body is, so it is no key further inside.
    """
    if not body.startswith(b"{") or _SHAPES[dialect].key not in body[:_HEAD_BYTES]:
        return None
    at = body.rfind(b'"usage"', max(0, len(body) - _TAIL_BYTES))
    if at < 0 or not body[max(0, at - _BLANK_BYTES) : at].rstrip().endswith((b"{", b",")):
        return None
    try:
        usage = _usage.decode(b"{" + body[at:]).usage
    except _UNREADABLE:
        return None
    return given_usage(usage or {})


class Stream:
    """The bytes of a stream. `feed` returns what may be sent; from the event that ends the answer on they are `held`."""

    def __init__(self, dialect: str, candidates: int = 1) -> None:
        """`candidates`: so many were asked for, and the answer is whole when all of them are."""
        self.parts: list[bytes] = []
        """Everything that came."""
        self.ended = False
        """The answer is whole; from here on nothing may reach the client before the record is committed."""
        self._dialect = dialect
        self._shape = _SHAPES[dialect]
        self._whole: set[int] = set()
        self._candidates = candidates
        self._open: list[bytes] = []
        """The begin of an event that has not come whole."""
        self._first = b""
        self._held: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came. Events are passed on whole. Raises UpstreamFailed for one that cannot be read."""
        self.parts.append(data)
        if self.ended:
            self._held.append(data)
            return b""
        cut = data.rfind(b"\n\n") + 2
        if cut < 2:
            cut = data.rfind(b"\n") + 1
        if cut == 0:
            self._open.append(data)
            return b""
        whole = data if cut == len(data) else data[:cut]
        block = b"".join([*self._open, whole]) if self._open else whole
        self._open = [data[cut:]] if cut < len(data) else []
        return self._passed(block)

    def close(self) -> bytes:
        """The stream is over: what came of a last event, to be sent, or held where it ends the answer."""
        block, self._open = b"".join(self._open), []
        try:
            return self._passed(block) if block and not self.ended else block
        except UpstreamFailed:
            return block  # the begin of an event: that the stream has not ended says it all

    @property
    def held(self) -> bytes:
        """What must be sent once the record is committed."""
        return b"".join(self._held)

    def usage(self) -> dict[str, Any] | None:
        """What the upstream says of an ended stream's usage; None where it says nothing."""
        answer = ANSWERS[self._dialect]()
        answer.read_events(self._first + self.held)
        return given_usage(answer.usage)

    def _passed(self, block: bytes) -> bytes:
        if self._shape.usage_first and self._shape.usage_first not in self._first and len(self._first) < _FIRST_BYTES:
            self._first += block
        end = self._end(block)
        if end is None:
            return block
        self.ended = True
        self._held += [block[end:], *self._open]
        self._open = []
        return block[:end]

    def _end(self, block: bytes) -> int | None:
        """Where in a block of whole lines the line begins that ends the answer."""
        marks = [at for mark in self._shape.marks if (at := block.find(mark)) >= 0]
        look = block.rfind(b"\n", 0, min(marks)) + 1 if marks else len(block)
        if look and not self._shape.is_plain(block if look == len(block) else block[:look]):
            look = 0
        if look == len(block):
            return None
        for line in block[look:].split(b"\n"):
            if line.startswith(b"data:"):
                try:
                    if line.startswith(_DONE):
                        return look
                    self._whole.update(self._shape.ends(line[5:]))
                    if len(self._whole) >= self._candidates:
                        return look
                except _UNREADABLE as error:
                    raise UpstreamFailed(f"The upstream streamed an event that cannot be read: {error}.") from error
            look += len(line) + 1
        return None
