"""Runs inside the sandbox, beside the evaluator: carries connections to its loopback ports through unix sockets to the world outside.

`python -I -S inside.py '{"forwards": [{"host", "port", "socket", "connect"}]}' -- argv...`. The sandbox has a network of its own, with
nothing but a loopback interface; unmodified clients connect to the usual addresses. A forward with `connect` ("host:port") asks the proxy
behind its socket for that address first. It is a process apart from the evaluator's, and ends, with the same status, when that does.

Stdlib only, one file: nothing else of the platform is seen inside.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
REFUSED_SECONDS = 5.0
"""How long a client whose address nobody answers may take to say something and to go."""


class Half(asyncio.Protocol):
    """One side of a connection; what it reads goes to the other side, no faster than that takes it."""

    def __init__(self) -> None:
        self.other: Half | None = None
        self.transport: Any = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """asyncio: hand the end on; the other direction stays open."""
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        """asyncio: our peer reads slowly."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Outward(Half):
    """The side towards the unix socket. Where a proxy is behind it, its answer to our CONNECT comes first."""

    def __init__(self, client: Inward, connect: str | None) -> None:
        super().__init__()
        self.client = client
        self.connect = connect
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        super().connection_made(transport)
        if self.connect is None:
            self.join()
        else:
            self.transport.write(f"CONNECT {self.connect} HTTP/1.1\r\nHost: {self.connect}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        if self.other is not None:
            super().data_received(data)
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end >= 0 and self.head.split(b" ", 2)[1:2] == [b"200"]:
            rest, self.head = self.head[end + 4 :], b""
            self.join()
            if rest:
                super().data_received(rest)
        elif end >= 0 or len(self.head) > 16384:
            self.client.refuse()
            self.transport.close()

    def join(self) -> None:
        """Let the bytes through."""
        self.other, self.client.other = self.client, self
        for data in self.client.early:
            self.transport.write(data)
        self.client.early.clear()
        self.client.transport.resume_reading()


class Inward(Half):
    """The side towards the client."""

    def __init__(self, socket: str, connect: str | None) -> None:
        super().__init__()
        self.socket = socket
        self.connect = connect
        self.opening: asyncio.Task[None] | None = None
        self.refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        super().connection_made(transport)
        self.transport.pause_reading()
        self.opening = asyncio.get_running_loop().create_task(self.open())

    async def open(self) -> None:
        """Connect outwards."""
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: Outward(self, self.connect), path=self.socket
            )
        except OSError:
            self.transport.abort()

    def refuse(self) -> None:
        """Nobody listens outside. The connection ends after the client's first words and not in the middle of them: whoever asks sees the
        same end each time, a connection closed without an answer."""
        self.refused = True
        self.transport.resume_reading()
        asyncio.get_running_loop().call_later(REFUSED_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        if not self.refused:
            super().data_received(data)
        elif self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()


def main() -> int:
    """Returns the exit status of the evaluator."""
    options, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        sys.exit("usage: inside.py JSON -- argv...")
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        _become(argv, ready, go)
    os.close(ready)
    for descriptor in map(int, json.loads(options).get("close", [])):
        os.close(descriptor)  # the evaluator's, not ours
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return asyncio.run(_serve(json.loads(options)["forwards"], child, go))


def _become(argv: list[str], ready: int, go: int) -> None:
    """In the child: wait until the ports are open, then become the evaluator."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.close(go)
    os.read(ready, 1)
    os.close(ready)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


async def _serve(forwards: list[dict[str, Any]], child: int, go: int) -> int:
    loop = asyncio.get_running_loop()
    for forward in forwards:
        try:
            await loop.create_server(
                lambda f=forward: Inward(f["socket"], f.get("connect")), forward["host"], forward["port"], backlog=512
            )
        except OSError as error:
            print(
                f"sandbox: {forward['host']}:{forward['port']} cannot be opened inside: {error}",
                file=sys.stderr,
                flush=True,
            )
    os.close(go)
    ended = loop.create_future()
    handle = os.pidfd_open(child)
    loop.add_reader(handle, lambda: ended.done() or ended.set_result(None))
    await ended
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
