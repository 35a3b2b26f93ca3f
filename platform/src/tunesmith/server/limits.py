"""Bodies above their limit are refused before they are read whole: JSON is small, uploads have the limit of the settings.

A body that announces too much is refused at its first read, so that a route's own checks (the key) come first.
"""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.errors import TunesmithError

JSON_LIMIT = 4 * 1024 * 1024
CHAT_LIMIT = 64 * 1024 * 1024
"""Model calls carry whole conversations, images included."""
_MULTIPART_SLACK = 64 * 1024
_UPLOAD = re.compile(r"^/v1/accounts/.+:upload$|^/objects/")
_CONTROL = re.compile(r"^/v1/accounts(/|$)|^/objects/|^/dashboard|^/verifyApiKey$")


class BodyTooLarge(TunesmithError, HTTPException):
    """A body grew beyond its limit. Both of our tree and Starlette's, because FastAPI passes only the latter through its body reader."""

    status, code = 413, "RESOURCE_EXHAUSTED"

    def __init__(self, limit: int) -> None:
        message = (
            f"The body is larger than the limit of {limit} bytes. For uploads it is set by TUNESMITH_MAX_UPLOAD_BYTES."
        )
        TunesmithError.__init__(self, message)
        HTTPException.__init__(self, self.status, message)


class BodyLimit:
    """ASGI middleware that raises BodyTooLarge (413) at the read of a body that is, or grows, too large."""

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        self._app = app
        self._upload_limit = max_upload_bytes + _MULTIPART_SLACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"")
        seen = int(declared) if declared.isdigit() else 0
        if seen <= limit:
            seen = 0  # as announced or not, what arrives is counted

        async def counted() -> Message:
            nonlocal seen
            if seen > limit:
                raise BodyTooLarge(limit)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, counted, send)

    def _limit(self, path: str) -> int:
        if _UPLOAD.match(path):
            return self._upload_limit
        return JSON_LIMIT if _CONTROL.match(path) else CHAT_LIMIT
