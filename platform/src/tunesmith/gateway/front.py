"""The short way to the gateway's routes, past the control plane's routing and middleware, which cost a millisecond and more a request.

A rollout makes about eight requests; agents make them by the thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class GatewayFirst:
    """ASGI: the gateway's routes are answered here, everything else by the app behind."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes: dict[tuple[str, str], list[Route]] = {}
        """By method and the path's last part, which every route of the gateway names."""
        for route in routes:
            if isinstance(route, Route):
                for method in route.methods or ():
                    self._routes.setdefault((method, _last(route.path)), []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http":
            for route in self._routes.get((scope["method"], _last(scope["path"])), ()):
                match, child = route.matches(scope)
                if match is Match.FULL:
                    scope.update(child)
                    response = await route.endpoint(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
