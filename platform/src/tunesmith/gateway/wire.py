"""One HTTP answer of an upstream, from the bytes of its connection: the head parsed, the body handed on as it comes.

A body of known length passes by the parser, which would copy it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import httptools

_HEAD_BYTES = 65_536
"""Longest head of an answer."""
_AHEAD_BYTES = 524_288
"""Bytes that are read before somebody takes them."""
_UNPACKED_BYTES = 2**20
"""Of a packed answer, at once."""


class Malformed(ConnectionError):
    """What came over a connection is not an HTTP answer that can be read."""


class Line(Protocol):
    """What an answer needs of its connection."""

    loop: asyncio.AbstractEventLoop
    closed: bool
    answer: WireAnswer | None

    @property
    def transport(self) -> asyncio.Transport:
        """For pausing."""
        ...

    def give_back(self) -> None:
        """The answer is over, and another request may be sent."""
        ...

    def close(self) -> None:
        """Close at once."""
        ...


class WireAnswer:
    """One answer: its head, then its body as it comes. It must be released or closed. Reading it raises ConnectionError, TimeoutError."""

    def __init__(self, connection: Line, silence: float) -> None:
        """`silence`: seconds in which nothing may come before it counts as broken."""
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.headers: dict[str, str] = {}
        loop = connection.loop
        self.head: asyncio.Future[None] = loop.create_future()
        """Done when status and headers are there."""
        self._connection, self._loop, self._silence = connection, loop, silence
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        """Until the end: parser and answer hold each other."""
        # What servers do that the standard forbids and that is harmless in an answer.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._head_size = 0
        self._begun = False
        self._left: int | None = None
        """Of a body of known length, taken as it comes: bytes that are missing. None: the parser takes it."""
        self._parts: list[bytes] = []
        self._ahead = 0
        self._paused = self._ended = self._wholly = False
        self._keep = True
        self._error: BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._heard = loop.time()
        self._watch = loop.call_at(self._heard + silence, self._look)

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """As announced."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isdigit() else None

    @property
    def content(self) -> WireAnswer:
        """What the body is read from, as with aiohttp's answers."""
        return self

    async def read(self) -> bytes:
        """All of the body as it came, packed or not."""
        self._wholly = True
        while not self._ended:
            await self._more()
        return self._taken()

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come, unpacked where they are packed."""
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if self._packed() else None
        while True:
            while self._parts:
                data = self._taken()
                if unpack is None:
                    yield data
                    continue
                try:
                    while data:
                        yield unpack.decompress(data, _UNPACKED_BYTES)
                        data = unpack.unconsumed_tail
                except zlib.error as error:
                    raise Malformed(f"what is said to be packed is not: {error}") from error
            if self._ended:
                return
            await self._more()

    def is_eof(self) -> bool:
        """Whether all of the body was taken."""
        return self._ended and not self._parts

    def release(self) -> None:
        """Give the connection back for the next request; one that is not at the end of its answer is closed."""
        if self._ended and self._keep and self._connection.answer is self:
            self._connection.give_back()
        else:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._watch.cancel()
        self._parser = None
        if self._connection.answer is self:
            self._connection.close()

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._heard = self._loop.time()
        try:
            while data:
                if self._left:
                    self._take(data)
                    return
                if self._parser is None:
                    self._keep = False  # more than the answer, which nobody asked for
                    return
                if self._begun:
                    self._parser.feed_data(data)
                    return
                data = self._feed_head(self._parser, data)
        except httptools.HttpParserUpgrade:
            self.fail(Malformed("it switches to another protocol, which was not asked for"))
        except (httptools.HttpParserError, ValueError) as error:
            self._keep = False
            if not self._ended:
                self.fail(Malformed(f"what it sent is no HTTP: {error}"))

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone: the end of a body without a length, else a break."""
        if self._ended or self._error is not None:
            return
        bounded = "content-length" in self.headers or "transfer-encoding" in self.headers
        if error is None and self._begun and not bounded:
            self._end()
        else:
            self.fail(error or ConnectionResetError("the connection was closed"))

    def fail(self, error: BaseException) -> None:
        """Have whoever waits, or reads later, get this."""
        self._error = error
        self._watch.cancel()
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # nobody may be there to fetch it
        self._wake()
        self.close()

    def on_message_begin(self) -> None:
        """Of the parser, as are those below; what they are told of a second answer counts for nothing."""
        self._keep = not self._ended

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun:  # else a trailer
            name = name.lower()
            self.raw_headers.append((name, value))
            self.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._ended or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._begun = True
            if not self.head.done():
                self.head.set_result(None)

    def on_body(self, data: bytes) -> None:
        if self._ended:
            return
        self._parts.append(data)
        self._ahead += len(data)
        if self._ahead > _AHEAD_BYTES and not self._wholly and not self._paused:
            self._paused = True
            self._connection.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if not self._begun:  # 1xx: the answer itself is still to come
            self.raw_headers, self.headers = [], {}
        elif not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._watch.cancel()
        self._keep = self._keep and self._parser is not None and self._parser.should_keep_alive()
        self._parser = None
        self._wake()

    def _feed_head(self, parser: httptools.HttpResponseParser, data: bytes) -> bytes:
        """Parse up to the end of a head; returns what lies behind it."""
        end = data.find(b"\r\n\r\n") + 4
        head = data if end < 4 else data[:end]
        parser.feed_data(head)
        self._head_size += len(head)
        if self._head_size > _HEAD_BYTES and not self._begun:
            raise ValueError(f"its head is longer than {_HEAD_BYTES} bytes")
        length = self.content_length
        if self._begun and not self._ended and length is not None and "transfer-encoding" not in self.headers:
            # Taken without the parser, which would copy it; but for what it has seen, as where the head came in several pieces.
            self._left = length - self._ahead
        return data[len(head) :]

    def _take(self, data: bytes) -> None:
        assert self._left is not None
        surplus = len(data) - self._left
        taken = data[: self._left] if surplus > 0 else data
        self._left -= len(taken)
        self.on_body(taken)
        if self._left == 0:
            self._end()
        self._keep = self._keep and surplus <= 0

    def _taken(self) -> bytes:
        parts, self._parts, self._ahead = self._parts, [], 0
        self._resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _resume(self) -> None:
        if self._paused:
            self._paused, self._heard = False, self._loop.time()
            if not self._connection.closed:
                self._connection.transport.resume_reading()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._resume()
        self._waiting = self._loop.create_future()
        await self._waiting
        if self._error is not None and not self._parts:
            raise self._error

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _look(self) -> None:
        """Whether something came in time; a pause is ours, not the upstream's."""
        now = self._loop.time()
        due = (now if self._paused else self._heard) + self._silence
        if due > now:
            self._watch = self._loop.call_at(due, self._look)
        else:
            self.fail(TimeoutError("nothing came"))

    def _packed(self) -> bool:
        packed = self.headers.get("content-encoding", "identity").strip().lower()
        if packed not in ("identity", "gzip", "x-gzip", "deflate"):
            raise Malformed(f"it is packed as {packed[:40]!r}, which was not asked for")
        return packed != "identity"
