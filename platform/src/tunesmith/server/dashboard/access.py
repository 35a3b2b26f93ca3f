"""Who may look: anybody on this machine, or a key of the account.

A page that needs no key must not be readable through a name that a foreign site points at this machine (DNS rebinding),
so the Host header must be a loopback name too.
"""

from __future__ import annotations

import ipaddress

from fastapi import Request

from tunesmith.server.auth import account_key
from tunesmith.server.control import ControlPlane
from tunesmith.settings import DEFAULT_ACCOUNT


def viewer(request: Request) -> str:
    """Short id of the account whose pages are shown. Raises Unauthenticated, PermissionDenied."""
    control: ControlPlane = request.app.state.control
    if "authorization" not in request.headers and is_local(request):
        return DEFAULT_ACCOUNT
    return account_key(request, control).account.removeprefix("accounts/")


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and to a name of this machine."""
    return bool(request.client) and _loopback(request.client.host) and _loopback(request.url.hostname or "")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
