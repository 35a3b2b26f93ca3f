"""What every engine process does: read the bearer key, take the port at once, answer until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tunesmith.errors import InvalidArgument
from tunesmith.runs.files import write_atomic


def read_key(file: Path) -> str:
    """The bearer key. Raises InvalidArgument when the file cannot be read or is empty."""
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InvalidArgument(f"The key file {file} cannot be read ({error.strerror}).") from error
    if not key:
        raise InvalidArgument(f"The key file {file} is empty.")
    return key


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 = any free one. Raises InvalidArgument when the port is taken."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise InvalidArgument(
            f"Cannot listen on {host}:{port} ({error.strerror}). Is another engine running there?"
        ) from error


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    port_file: Path | None,
    started: Callable[[int], None],
    ended: asyncio.Task[None] | None = None,
) -> None:
    """Answer until SIGTERM or Ctrl-C, or until `ended` is done.

    Args:
        app: The web application.
        listener: The socket to answer on.
        port_file: The port is written here once the application answers.
        started: Called then, with the port.
        ended: What the application cannot live without.
    """
    # Kept open for long: a pooled connection that closes just as the gateway writes to it would cost a failed call.
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=120,
            timeout_graceful_shutdown=2,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, restores this handler and raises the signal again: an orderly end is exit code 0.
        signal.signal(number, lambda *_: None)
    if ended is not None:
        ended.add_done_callback(lambda _: setattr(server, "should_exit", True))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    port = listener.getsockname()[1]
    if port_file is not None:
        write_atomic(port_file, f"{port}\n")
    started(port)
    await serving
