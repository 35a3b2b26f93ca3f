"""The way out of a sandbox: an HTTP proxy that knows which hosts the evaluator's owner allowed. Stdlib only; runs in the guard.

`CONNECT host:port` for everything with TLS and for forwarded loopback ports; `GET http://host/…` for plain HTTP, one request a
connection. Names are resolved here, once, and the address that was judged is the one connected to. Never reached: the platform's own
port, and link-local addresses, where clouds keep their machines' credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_LONGEST_HEAD = 64 * 1024
_CONNECT_SECONDS = 20.0
_PIECE = 64 * 1024
_DROPPED = ("connection", "proxy-connection", "proxy-authorization", "keep-alive")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """Not allowed, or not to be reached: status and reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Rules:
    """Where connections may go."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    """What the owner listed, lower case: (name, `*.name` or address, port)."""
    everything: bool = False
    """Any public address, too."""
    routes: dict[tuple[str, int], str] = field(default_factory=dict)
    """Addresses that stand for a unix socket: the gateway's."""
    own_ports: frozenset[int] = frozenset()
    """Ports of the platform on this machine."""

    def lists(self, host: str, port: int) -> bool:
        """Whether the owner named this host."""
        parents = [f"*.{host.split('.', depth)[-1]}" for depth in range(1, host.count(".") + 1)]
        return any((name, port) in self.hosts for name in (host, *parents))


class Proxy:
    """Serves connections; says once for each host that it refused it.

    Args:
        rules: where connections may go.
        say: writes a line to the job's log.
    """

    def __init__(self, rules: Rules, say: Callable[[str], None]) -> None:
        self._rules = rules
        self._say = say
        self._said: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # either side went away; the other is closed below
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            method, host, port, onward = _understand(head)
            theirs = await self._connect(host, port)
        except Refused as refused:
            self._note(refused.reason)
            body = f"{refused.reason}\n".encode()
            writer.write(
                f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            theirs[1].write(onward)
        await _both_ways((reader, writer), theirs)

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        route = self._rules.routes.get((host, port))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                if route is not None:
                    return await asyncio.open_unix_connection(route)
                problem = None
                for address in await self._addresses(host, port):
                    try:
                        return await asyncio.open_connection(str(address), port)
                    except OSError as error:
                        problem = error
                raise Refused("502 Bad Gateway", f"{_shown(host, port)} cannot be reached: {problem}.")
        except (OSError, TimeoutError) as error:
            raise Refused(
                "502 Bad Gateway", f"{_shown(host, port)} cannot be reached: {error or 'no answer'}."
            ) from error

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """The addresses of an allowed host. Raises Refused."""
        listed = self._rules.lists(host, port)
        if not listed and not self._rules.everything:
            raise Refused(
                "403 Forbidden",
                f"The evaluator may not connect to {_shown(host, port)}. To allow it, write into tunesmith.toml in its folder: "
                f'network = ["{_shown(host, port)}"]',
            )
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            reason = self._against(address, port, listed)
            if reason:
                raise Refused("403 Forbidden", f"The evaluator may not connect to {_shown(host, port)}: {reason}.")
        return addresses

    def _against(self, address: Address, port: int, listed: bool) -> str | None:
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
            return f"{plain} is no address of another program"
        if port in self._rules.own_ports and _is_ours(plain):
            return "that is the platform itself; model calls go to EP_MODEL_BASE_URL"
        if not listed and not plain.is_global:
            return f'{plain} is a private address, which "all" does not cover; list it itself in tunesmith.toml'
        return None

    def _note(self, reason: str) -> None:
        if reason not in self._said and len(self._said) < 100:
            self._said.add(reason)
            self._say(f"sandbox: {reason}")


def _understand(head: bytes) -> tuple[str, str, int, bytes]:
    """(method, host, port, head to send on) of a request to a proxy. Raises Refused."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise Refused("400 Bad Request", "The sandbox's proxy got something that is no HTTP request.")
    method, target, _ = words
    try:
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = parts.hostname, parts.port or (80 if method != "CONNECT" else None)
    except ValueError:
        raise Refused("400 Bad Request", f"The sandbox's proxy cannot tell the host of {target[:200]!r}.") from None
    if not host or not port or not re.fullmatch(r"[A-Za-z0-9._:\[\]%-]+", host):
        raise Refused("400 Bad Request", f"The sandbox's proxy cannot tell the host of {target[:200]!r}.")
    if method == "CONNECT":
        return method, host.lower(), port, b""
    if parts.scheme != "http":
        raise Refused("400 Bad Request", f"The sandbox's proxy takes http:// and CONNECT, not {target[:200]!r}.")
    path = parts.path or "/"
    kept = [line for line in lines[1:] if line and line.partition(":")[0].strip().lower() not in _DROPPED]
    request = f"{method} {path}{'?' + parts.query if parts.query else ''} HTTP/1.1"
    return method, host.lower(), port, "\r\n".join([request, *kept, "Connection: close", "", ""]).encode("latin-1")


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ours(address: Address) -> bool:
    """Whether it is an address of this machine: only such a one can be bound."""
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((str(address), 0))
        return True
    return False


async def _both_ways(
    ours: tuple[asyncio.StreamReader, asyncio.StreamWriter], theirs: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one_way(ours[0], theirs[1]))
            group.create_task(one_way(theirs[0], ours[1]))
    except* OSError:
        pass  # one side was cut; both are closed
    finally:
        theirs[1].close()
