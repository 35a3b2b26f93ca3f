"""The load: so many agents, each with a connection of its own, each calling again as soon as it was answered."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_FIRST_TOKEN = re.compile(rb'"content": ?"[^"]')


@dataclass
class Load:
    """What came of a load; times in seconds."""

    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    bytes: int = 0


class Agent(asyncio.Protocol):
    """One connection; `call` sends a prepared request and returns when the answer is whole."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Close the connection."""
        self._done = None
        self.transport.close()

    async def open(self, url: str) -> Agent:
        """Connect."""
        place = urlsplit(url)
        await asyncio.get_running_loop().create_connection(lambda: self, place.hostname, place.port)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def call(self, request: bytes) -> bytes:
        """The answer's bytes, head included. Raises RuntimeError when its status is not 200."""
        self._parts: list[bytes] = []
        self._size, self._whole, self._chunked = 0, -1, False
        self.first_token = 0.0
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._done
        answer = b"".join(self._parts)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:2000].decode(errors="replace"))
        return answer

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._whole < 0 and not self._chunked:
            joined = b"".join(self._parts)
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                return
            length = re.search(rb"\r\ncontent-length: *(\d+)", joined[:end], re.IGNORECASE)
            self._chunked = length is None
            self._whole = end + 4 + int(length[1]) if length else -1
        if not self.first_token and _FIRST_TOKEN.search(data):
            self.first_token = time.perf_counter()
        ended = data.endswith(b"0\r\n\r\n") if self._chunked else self._size >= self._whole
        if ended and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(RuntimeError(f"The contender closed the connection: {exc}"))


def prepared(url: str, path: str, key: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def drive(url: str, request: bytes, agents: int, calls: int) -> Load:
    """Make `calls` calls with `agents` agents."""
    load, left = Load(), iter(range(calls))

    async def agent() -> None:
        connection = await Agent().open(url)
        for _ in left:
            before = time.perf_counter()
            load.bytes += len(await connection.call(request))
            load.latencies.append(time.perf_counter() - before)
            if connection.first_token:
                load.first_tokens.append(connection.first_token - before)
        connection.close()

    await asyncio.gather(*(agent() for _ in range(agents)))
    return load


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads together, by the kernel's clock of that process (nanoseconds, not ticks)."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of a pid, as clock_getcpuclockid(3) makes it


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now, and its peak, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(status["VmRSS"].split()[0]) / 1000, int(status["VmHWM"].split()[0]) / 1000
