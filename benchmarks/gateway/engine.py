"""The fake instant engine, which is also the upstream and the supervisor: `python -m benchmarks.gateway.engine MODEL TOKENS SOCKET PORT_FILE`.

Its answers are bytes that were made at the start, written one event after the other, so that what is measured is the contender.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.gateway.material import CONTEXT, Material

_BURST = 16
"""Events written before the event loop runs again."""


class Answers:
    """Every answer, whole in memory."""

    def __init__(self, model: Path, tokens: int) -> None:
        long, short = Material.make(model, tokens), Material.make(model, 60)
        self.generate = {
            (stream, is_short): material.engine_events(stream, 20)
            for stream in (False, True)
            for is_short, material in ((False, long), (True, short))
        }
        self.chat_whole, self.chat_events = long.upstream_whole(), long.upstream_events()

    def of(self, path: bytes, body: bytes) -> tuple[bytes, list[bytes]]:
        """Content type and pieces of an answer; several pieces are a stream."""
        stream = b'"stream":true' in body or b'"stream": true' in body
        if path.endswith(b"/chat/completions"):
            return (b"text/event-stream", self.chat_events) if stream else (b"application/json", [self.chat_whole])
        if path == b"/generate":
            short = b'"max_tokens":60' in body or b'"max_tokens": 60,' in body
            return b"application/x-ndjson", self.generate[stream, short]
        if path == b"/info":
            info = {"context_length": CONTEXT, "vocab_size": 4096, "capabilities": [], "adapters": [], "pid": 0}
            return b"application/json", [json.dumps(info).encode()]
        return b"application/json", [b"{}"]


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as the contenders' clients speak."""

    def __init__(self, answers: Answers, url: str = "") -> None:
        self._answers = answers
        self._url = url
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=2**24)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length, at = 0, head.find(b"content-length:")
            if at >= 0:
                length = int(head[at + 15 :].split(b"\r", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            body, path = self._buffer[end + 4 : end + 4 + length], self._buffer.split(b" ", 2)[1]
            self._buffer = self._buffer[end + 4 + length :]
            if path == b"/engines":
                made = json.dumps({"url": self._url, "pid": 0, "base_model": json.loads(body)["base_model"]}).encode()
                self._whole(b"application/json", made)
                continue
            kind, pieces = self._answers.of(path, body)
            if len(pieces) == 1:
                self._whole(kind, pieces[0])
            else:
                asyncio.ensure_future(self._stream(kind, pieces))

    def _whole(self, kind: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
        self._transport.write(head + body)

    async def _stream(self, kind: bytes, pieces: list[bytes]) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % kind
        self._transport.write(head)
        for number, piece in enumerate(pieces):
            self._transport.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if number % _BURST == 0:
                await asyncio.sleep(0)
        self._transport.write(b"0\r\n\r\n")


async def main(model: Path, tokens: int, supervisor: Path, port_file: Path) -> None:
    """Serve until killed."""
    answers = Answers(model, tokens)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    unix = await loop.create_unix_server(
        lambda: Connection(answers, url), str(supervisor)
    )  # kept: uvloop closes a lost one
    port_file.write_text(url)
    await asyncio.gather(server.serve_forever(), unix.serve_forever())


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
