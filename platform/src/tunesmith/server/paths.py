"""Clients may put a full resource name where an id belongs, percent-encoded: `…/datasets/accounts%2Fa%2Fdatasets%2Fx`.

Such a path is rewritten to the plain one before routing. The account of the inner name is the one that counts (and is checked).
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_ACCOUNT = re.compile(r"^/v1/accounts/accounts/")
_RESOURCE = re.compile(r"^/v1/accounts/[^/]+/([^/]+)/accounts/([^/]+)/\1/")


def plain_path(path: str) -> str:
    """`/v1/accounts/a/datasets/accounts/b/datasets/x:upload` -> `/v1/accounts/b/datasets/x:upload`."""
    path = _ACCOUNT.sub("/v1/accounts/", path)
    return _RESOURCE.sub(r"/v1/accounts/\2/\1/", path)


class ResourceNames:
    """ASGI middleware that rewrites full names in paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/accounts/"):
            scope = {**scope, "path": plain_path(scope["path"])}
        await self._app(scope, receive, send)
