"""The short way to a model call: past the routing and the middleware of the control plane, which cost more than a call itself."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.gateway.paths import PatternRoute


class CallsFirst:
    """ASGI: model calls are answered here, everything else by the app behind."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], paths: tuple[str, ...]) -> None:
        """`routes` are the gateway's, of which those that take POST and end in one of `paths` are model calls."""
        self._app = app
        self._paths = paths
        self._routes = [
            r for r in routes if isinstance(r, PatternRoute) and r.path.endswith(paths) and r.methods == {"POST"}
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a model call, or pass on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(self._paths):
            for route in self._routes:
                match, child = route.matches(scope)
                if match is Match.FULL:
                    scope.update(child)
                    response = await route.endpoint(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
