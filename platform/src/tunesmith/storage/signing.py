"""URLs that carry their own permission: HMAC-SHA256 over method, path, expiry and size, under a key derived from the pepper.

The local store cannot sign, so our own routes check these: `PUT /objects/{key}` and the download routes. Whoever holds the URL
may do that one thing until it expires; nothing else in the request matters.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from tunesmith.errors import PermissionDenied

LIFETIME_SECONDS = 3600


@dataclass(frozen=True)
class UrlSigner:
    """Makes and checks signed URLs."""

    key: bytes = field(repr=False)

    @classmethod
    def from_pepper(cls, pepper: bytes) -> UrlSigner:
        """A signer whose key serves for nothing else."""
        return cls(hmac.new(pepper, b"tunesmith signed urls", hashlib.sha256).digest())

    def url(
        self, base: str, method: str, path: str, *, size: int | None = None, lifetime: float = LIFETIME_SECONDS
    ) -> str:
        """Absolute URL for one `method` on `path` (decoded, beginning with `/`); `size` is the exact body size in bytes."""
        expires = int(time.time() + lifetime)
        query = {"expires": str(expires)} | ({} if size is None else {"size": str(size)})
        query["signature"] = self._sign(method, path, query["expires"], query.get("size", ""))
        return f"{base.rstrip('/')}{quote(path)}?{urlencode(query)}"

    def check(self, method: str, path: str, query: Mapping[str, str]) -> int | None:
        """The signed size, if one was. Raises PermissionDenied when the URL was changed, or its time is over."""
        expires, size = query.get("expires", ""), query.get("size", "")
        expected = self._sign(method, path, expires, size)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
            raise PermissionDenied(
                "The signature of this URL does not fit it. Ask for a new one; it must be used unchanged."
            )
        if int(expires) < time.time():
            raise PermissionDenied("This URL has expired. Ask for a new one.")
        return int(size) if size else None

    def _sign(self, method: str, path: str, expires: str, size: str) -> str:
        text = "\n".join((method, path, expires, size))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
