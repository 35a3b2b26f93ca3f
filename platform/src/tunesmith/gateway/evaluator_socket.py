"""The gateway as evaluators reach it: a unix socket that their sandboxes show, in place of the platform's port.

Only model calls, logs, statuses and traces are admitted there, and of keys only the job-scoped kind: whatever key an evaluator may have
come by, the control plane and the internal routes are not behind this door.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.errors import PermissionDenied
from tunesmith.gateway.errors import envelope
from tunesmith.gateway.paths import open_to_evaluators

MARK = "tunesmith.evaluator"
"""Set in the scope of requests that came through the socket."""


class EvaluatorDoor:
    """ASGI: marks what came through the socket, and turns away what is not an evaluator's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        server = scope.get("server")
        if scope["type"] == "lifespan" or server is None or server[1] is not None:  # a unix socket has no port
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if scope["type"] != "http" or not open_to_evaluators(scope["method"], path):
            error = PermissionDenied(
                f"{scope.get('method', 'This')} {path[:300]} is not open to evaluators: from the sandbox only model calls, logs, status and traces "
                "are. Ask the platform from outside, with your own key."
            )
            if scope["type"] == "http":
                await JSONResponse(envelope(error), error.status)(scope, receive, send)
            return
        scope[MARK] = True
        await self._app(scope, receive, send)


def listen(path: Path) -> socket.socket:
    """The socket, for this user alone, in place of one that an earlier process left. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        # By way of the folder's descriptor: the path of a data folder may be longer than the 107 bytes of a socket's.
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
        os.close(folder)
    return listener
