"""The browser's session: an API key, sealed in a cookie, which stands in for the `Authorization` header that a page cannot send.

In front of everything a request without that header is given the cookie's key, so that control plane and gateway treat it as any other,
and the end or a new role of the key counts at once. Browsers send cookies along by themselves, so whatever changes something must also
show that our own page asked for it: by a header that no form and no foreign script can set, and by the origin where the browser tells it.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.errors import Internal
from tunesmith.server.errors import answer
from tunesmith.storage.encryption import decrypt, encrypt

COOKIE = "tunesmith_session"
LIFETIME_SECONDS = 30 * 86_400.0
OUR_HEADER = "x-tunesmith"
UNTIL = "signed_in_until"
"""In the scope's state: when the cookie that this request came with ends, Unix seconds."""
_USE = "tunesmith session cookie"
_SAFE = ("GET", "HEAD")
_SIGN_IN = "/dashboard/session"


@dataclass(frozen=True)
class Signed:
    """What a cookie holds."""

    key: str = field(repr=False)
    expires: float
    """Unix seconds."""


def seal(master: bytes, signed: Signed) -> str:
    """The cookie's value: AES-256-GCM under the platform's master key, bound to this one use."""
    text = json.dumps({"key": signed.key, "expires": signed.expires})
    return base64.urlsafe_b64encode(encrypt(master, text, _USE)).decode().rstrip("=")


def unseal(master: bytes, value: str) -> Signed | None:
    """What a cookie holds; None when it was not sealed here, or its time is over."""
    try:
        sealed = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        found = json.loads(decrypt(master, sealed, _USE)) if len(sealed) > 28 else {}
        signed = Signed(str(found["key"]), float(found["expires"]))
    except (Internal, ValueError, KeyError, binascii.Error):
        return None
    return signed if signed.expires > time.time() else None


def own_origin(headers: Headers, public_url: str | None) -> bool:
    """Whether a request that changes something was made by a page of this origin, as far as the browser tells."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return True
    return urlsplit(origin).netloc == headers.get("host") or origin == public_url


class CookieFirst:
    """ASGI: turns a valid session cookie into the `Authorization` header of its key. A request that has one passes untouched."""

    def __init__(self, app: ASGIApp, master: bytes, public_url: str | None) -> None:
        self._app = app
        self._master = master
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the key where the cookie holds one; answer 403 where the request may have been forged."""
        if scope["type"] == "http":
            cookie = b""
            for name, value in scope["headers"]:
                if name in (b"authorization", b"x-api-key"):
                    cookie = b""
                    break
                if name == b"cookie":
                    cookie = value
            signed = self._signed(cookie) if cookie else None
            signing_in = scope["path"] == _SIGN_IN and scope["method"] == "POST"
            if signed is not None and not signing_in:
                if scope["method"] not in _SAFE and not self._is_ours(Headers(scope=scope)):
                    await answer(403, 7, _FORGED)(scope, receive, send)
                    return
                scope = _with_key(scope, signed)
        await self._app(scope, receive, send)

    def _signed(self, header: bytes) -> Signed | None:
        try:
            found = SimpleCookie(header.decode("latin-1")).get(COOKIE)
        except CookieError:
            return None
        return unseal(self._master, found.value) if found is not None else None

    def _is_ours(self, headers: Headers) -> bool:
        return headers.get(OUR_HEADER) == "1" and own_origin(headers, self._public_url)


_FORGED = (
    f"This request came with the dashboard's cookie, but not from the dashboard. Send the header '{OUR_HEADER}: 1' from a page "
    "of this platform, or an API key as 'Authorization: Bearer KEY'."
)


def _with_key(scope: Scope, signed: Signed) -> Scope:
    """The request with its key in the place of its cookies, which nothing behind this needs."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    headers.append((b"authorization", b"Bearer " + signed.key.encode("latin-1", "replace")))
    return {**scope, "headers": headers, "state": {**scope.get("state", {}), UNTIL: signed.expires}}
