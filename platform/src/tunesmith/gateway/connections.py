"""HTTP/1.1 to upstreams, kept short: one request at a time on a connection, which is kept for the next one.

A general client costs three times as much CPU for each call as this does, and for a whole answer that is a third of what passing it on
costs at all. Only what the gateway needs is here: POST, bodies in memory, no redirects, no cookies, no proxy.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import aiohappyeyeballs
from yarl import URL

from tunesmith.errors import FailedPrecondition
from tunesmith.gateway.addresses import AddressGuard, GuardedConnector
from tunesmith.gateway.wire import WireAnswer

CONNECT_SECONDS = 10.0
KEPT_SECONDS = 15.0
"""How long a connection that is not used stays open. Servers close theirs after a while, and what is sent then is lost."""
_JOINED_BYTES = 65_536
"""Bodies up to this size are sent in one piece with their head."""
_ANOTHER_ADDRESS_SECONDS = 0.25
"""After this the next address of a name is tried beside the one that does not answer (RFC 8305)."""


_Origin = tuple[str, str, int]
"""Scheme, host, port."""


class Connection(asyncio.Protocol):
    """A connection to one origin, for one answer at a time."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, keep: Callable[[Connection], None]) -> None:
        """`keep` takes it when it waits for its next request."""
        self.loop = loop
        self.answer: WireAnswer | None = None
        self.closed = False
        self.since = 0.0
        """From when on it has been idle."""
        self._keep = keep

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self.answer is not None:
            self.answer.feed(data)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.answer is not None:
            self.answer.lost(exc)

    def send(self, head: bytes, body: bytes, silence: float) -> WireAnswer:
        """Send a request."""
        self.answer = WireAnswer(self, silence)
        if len(body) <= _JOINED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines([head, body])
        return self.answer

    def give_back(self) -> None:
        """The answer was read: wait for the next request."""
        self.answer = None
        if not self.closed:
            self.since = self.loop.time()
            self._keep(self)

    def is_usable(self) -> bool:
        """Whether another request may be sent: it is open, and has not been idle for long."""
        return not self.closed and not self.transport.is_closing() and self.loop.time() - self.since < KEPT_SECONDS

    def close(self) -> None:
        """Close at once."""
        self.answer, self.closed = None, True
        self.transport.abort()


class Connections:
    """The connections to all upstreams, made to addresses that the guard allows. For one event loop."""

    def __init__(self, guard: AddressGuard, silence: float) -> None:
        """`silence`: seconds in which nothing may come of an answer."""
        self._resolver = GuardedConnector(guard)
        self._silence = silence
        self._idle: dict[_Origin, list[Connection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str]) -> WireAnswer:
        """Send a request and wait for the head of its answer.

        Raises UpstreamRefused, FailedPrecondition for headers that cannot be sent, ConnectionError, TimeoutError and OSError.
        """
        head = _head(url, headers, len(body))
        origin = (url.scheme, (url.raw_host or "").rstrip("."), url.port or 0)
        connection = self._kept(origin) or await self._open(origin)
        answer = connection.send(head, body, self._silence)
        try:
            await answer.head
        except BaseException:
            answer.close()
            raise
        return answer

    async def close(self) -> None:
        """Close what is idle."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
        await self._resolver.close()

    def _kept(self, origin: _Origin) -> Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for long."""
        self._sweeping = None
        kept: dict[_Origin, list[Connection]] = {}
        for origin, idle in self._idle.items():
            for connection in idle:
                if connection.is_usable():
                    kept.setdefault(origin, []).append(connection)
                else:
                    connection.close()
        self._idle = kept
        if kept:
            self._sweeping = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    async def _open(self, origin: _Origin) -> Connection:
        loop, (scheme, host, port) = asyncio.get_running_loop(), origin
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await self._resolver._resolve_host(host, port)
            connected = await aiohappyeyeballs.start_connection(
                [_address(each["host"], port) for each in found],
                happy_eyeballs_delay=_ANOTHER_ADDRESS_SECONDS,
                interleave=1,
                loop=loop,
            )
            try:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secure: dict[str, Any] = {"ssl": _trusting(), "server_hostname": host} if scheme == "https" else {}
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, partial(self._keep, origin)), sock=connected, **secure
                )
            except BaseException:
                connected.close()
                raise
        return connection


@cache
def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _address(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def _head(url: URL, headers: Mapping[str, str], size: int) -> bytes:
    lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"host: {url.raw_authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {size}\r\n\r\n")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise FailedPrecondition(
            f"The headers for {url.origin()} cannot be sent: one of them, most likely the key, holds a line end. Store the secret again "
            "without it."
        )
    return head
