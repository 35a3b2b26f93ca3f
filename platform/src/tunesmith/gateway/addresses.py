"""Where a passed-through call may go: public addresses, and the private ones that the operator named.

Who picks an upstream is not trusted, and this process stands where private services answer. So the address that is connected to is
the one that is checked: names are resolved here, and every socket is made here, which leaves no room for a name that means
something else a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from tunesmith.errors import InvalidArgument, PermissionDenied

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SETTING = "TUNESMITH_ALLOWED_UPSTREAMS"
_KEPT_URLS = 1000
_PORTS = {"http": 80, "https": 443}

_REFUSED = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network (RFC 791); 0.0.0.0 reaches this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible (RFC 4291)
        "64:ff9b:1::/48",  # NAT64 of a local network (RFC 8215)
        "100::/64",
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/9",  # link-local and site-local
        "ff00::/8",
    )
]
"""Not on the public internet: IANA's special-purpose registries (RFC 6890 and what updated it)."""


class UpstreamRefused(PermissionDenied):
    """The upstream's address is not one that this platform calls."""

    param, reason = "encoded_base_url", "upstream_refused"


@dataclass(frozen=True)
class _Allowed:
    """One entry of the setting: a host name or a network, at one port or at any."""

    host: str | None
    network: Network | None
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        return self.host == host and self.port in (None, port)

    def holds(self, address: Address, port: int) -> bool:
        return self.network is not None and address in self.network and self.port in (None, port)


class AddressGuard:
    """Says which upstreams may be called. `allowed`: `HOST`, `HOST:PORT`, `ADDRESS`, `NETWORK/BITS`, `[IPv6]:PORT`."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises InvalidArgument for an entry that is none of these."""
        self._allowed = [_entry(text) for text in allowed]
        self._checked: dict[str, URL] = {}

    def check_url(self, text: str) -> URL:
        """As `read_url`, remembered: a URL that passed once does so again."""
        found = self._checked.get(text)
        if found is None:
            found = self.read_url(text)
            if len(self._checked) > _KEPT_URLS:
                self._checked.clear()
            self._checked[text] = found
        return found

    def read_url(self, text: str) -> URL:
        """The URL of an upstream, in its plain form. Its address, if it is not written out, is checked when it is resolved.

        Raises InvalidArgument for what is no http(s) URL, UpstreamRefused for a host that is not called.
        """
        if re.search(
            r"[\s\\\x00-\x1f\x7f]", text
        ):  # parsers disagree on these, and one of them is a way around the other
            raise InvalidArgument(f"{text[:200]!r} is not a URL: it has blanks, backslashes or control characters.")
        try:
            url = URL(text)
            host, port = (url.raw_host or "").rstrip(".").lower(), url.port
        except ValueError as error:
            raise InvalidArgument(f"{text[:200]!r} is not a URL: {error}.") from error
        if url.scheme not in _PORTS or not host or not port:
            raise InvalidArgument(f"{text[:200]!r} is not the URL of an upstream: give http://HOST or https://HOST.")
        if url.user is not None or url.password is not None or "@" in url.raw_authority:
            raise UpstreamRefused("The upstream's URL carries a user or a password; send the key as api_key instead.")
        if url.query_string or url.fragment:
            raise InvalidArgument(
                f"{text[:200]!r} has a query or a fragment: a path is appended to it, so leave them out."
            )
        if "%" in host:
            raise InvalidArgument(f"{text[:200]!r}: an upstream's host has no zone.")
        address = _literal(host)
        if address is not None:
            self.check_address(address, port, host)
        elif re.fullmatch(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)", host):
            raise UpstreamRefused(f"{host!r} is a number that stands for an address. Write the address as a.b.c.d.")
        return url

    def check_address(self, address: Address, port: int, host: str) -> None:
        """Raise UpstreamRefused unless the address may be connected to on behalf of `host`."""
        if any(entry.covers(host, port) or entry.holds(address, port) for entry in self._allowed):
            return
        if not is_public(address):
            where = host if str(address) == host else f"{host} ({address})"
            raise UpstreamRefused(
                f"The upstream {where}, port {port}, is not on the public internet, and calls are not passed on to it. "
                f"The operator of this platform can allow it: {SETTING}={_suggested(host, port)} (or a network, or a host)."
            )


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet; of IPv6 forms that carry an IPv4 address, whether both are."""
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        inner = _embedded(address)
        return (inner is None or is_public(inner)) and address in _GLOBAL_UNICAST
    return True


_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: what a network without IPv4 resolves public IPv4 hosts to."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which 6to4 (RFC 3056) and ISATAP (RFC 5214) would bring a packet."""
    if address.sixtofour is not None:
        return address.sixtofour
    if (int(address) >> 32) & 0xFCFFFFFF == 0x00005EFE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class GuardedConnector(TCPConnector):
    """Connects to what the guard allows. A literal address has no resolver to pass, so it is checked here as well."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver | None = None, **options: Any) -> None:
        self._guard = guard
        super().__init__(resolver=GuardedResolver(guard, resolver), use_dns_cache=False, **options)

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[ResolveResult]:
        address = _literal(host)
        if address is not None:
            self._guard.check_address(address, port, host)
        return await super()._resolve_host(host, port, traces)


class GuardedResolver(AbstractResolver):
    """Resolves names and keeps of their addresses those that may be connected to."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises UpstreamRefused when a name has no address that is allowed, OSError when it has none at all."""
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        kept, refused = [], None
        for result in found:
            try:
                self._guard.check_address(ipaddress.ip_address(result["host"]), port, host.rstrip(".").lower())
                kept.append(result)
            except UpstreamRefused as error:
                refused = error
        if refused is not None and not kept:
            raise refused
        return kept

    async def close(self) -> None:
        """Close the resolver underneath."""
        if self._resolver is not None:
            await self._resolver.close()


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _entry(text: str) -> _Allowed:
    text = text.strip().lower()
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?", text)
    try:
        if match is None:
            return _Allowed(None, ipaddress.ip_network(text), None)  # a network, or an IPv6 address without a port
        host, port = match["v6"] or match["host"], int(match["port"]) if match["port"] else None
        address = _literal(host)
        if address is not None:
            return _Allowed(None, ipaddress.ip_network(address), port)
        return _Allowed(host.rstrip("."), None, port)
    except ValueError as error:
        raise InvalidArgument(
            f"{SETTING}: {text!r} is no host, address or network ({error}). Give HOST, HOST:PORT, ADDRESS or NETWORK/BITS, "
            "with commas between them."
        ) from error


def _suggested(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
