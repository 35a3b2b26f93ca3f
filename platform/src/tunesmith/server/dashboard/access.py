"""Whether a browser runs on this machine: then its person may look without a key.

A page that needs no key must not be readable through a name that a foreign site points at this machine (DNS rebinding),
so the Host header must be a loopback name too.
"""

from __future__ import annotations

import ipaddress

from fastapi import Request

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, to a name of this machine, and not through a proxy."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    return bool(request.client) and _loopback(request.client.host) and _loopback(request.url.hostname or "")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
