"""Running the local UI: bound to this machine's own addresses, announced beside its store, ended by Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from eval_protocol.errors import UsageError
from eval_protocol.results import presence
from eval_protocol.tracing.route import TracingGateway
from eval_protocol.ui.app import make_app

GRACE_SECONDS = 1.0
"""How long an answer under way may take once the server is told to end."""


async def serve(
    store: Path, port: int, gateway: TracingGateway | None = None, *, ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0 takes a free one.
        ready: called with the address once it answers.

    Raises:
        UsageError: the port is taken or not allowed.
        ResultsError: the store cannot be opened.
    """
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    runner = web.AppRunner(make_app(store, gateway), access_log=None, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise _refused(error, port) from error
        port = runner.addresses[0][1]
        with contextlib.suppress(OSError):  # a machine without IPv6; browsers then take 127.0.0.1 for localhost
            await web.TCPSite(runner, "::1", port).start()
        mine = presence.announce(store, port)
        try:
            ready(mine.url)
            await ended.wait()
        finally:
            presence.withdraw(store, mine)
    finally:
        await runner.cleanup()


def _refused(error: OSError, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"Port {port} is taken, perhaps by another 'ep logs'. Look at http://localhost:{port}, or give another: ep logs --port {port + 1}"
        )
    return UsageError(f"Port {port} cannot be used: {error.strerror or error}. Give another: ep logs --port 8001")
