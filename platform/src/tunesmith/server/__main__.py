"""`python -m tunesmith.server --data-dir D [--host H] [--port P]`: the web process. Port 0 takes a free one and prints it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import socket
import sys

import click
import uvicorn

from tunesmith.errors import TunesmithError
from tunesmith.gateway import evaluator_socket
from tunesmith.server.app import create_app
from tunesmith.settings import Settings

TICK_SECONDS = 0.25
"""How often the server looks whether it was told to stop; uvicorn's own loop does it ten times a second, all day long."""
SHUTDOWN_SECONDS = 5
"""What open streams get before they are cut."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), by their numbers in malloc.h."""
_KEPT_BYTES = 64 * 2**20
_MAPPED_BYTES = 4 * 2**20
"""Blocks from this size on are given back at once."""


@click.command()
@click.option("--data-dir", help="Folder of everything the platform owns.")
@click.option("--host", help="Address to listen on; beyond loopback the dashboard asks for a key.")
@click.option("--port", type=int, help="Port; 0 takes a free one.")
def main(data_dir: str | None, host: str | None, port: int | None) -> None:
    """Serve control plane and gateway until SIGINT or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load(data_dir=data_dir, host=host, port=port)
        listener = _listen(settings.host, settings.port)
        for_evaluators = evaluator_socket.listen(settings.path("gateway", "g.sock"))
        app = create_app(settings)
    except (TunesmithError, OSError) as error:
        sys.exit(f"tunesmith: {error}")
    _spare_the_collector()
    _keep_freed_memory()
    print(f"Tunesmith serves {settings.data_dir} at http://{settings.host}:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS, server_header=False
    )
    _Server(config).run(sockets=[listener, for_evaluators])


class _Server(uvicorn.Server):
    """uvicorn's, woken less often."""

    async def main_loop(self) -> None:
        """Until told to stop. Every tick sets the date that answers carry."""
        while not await self.on_tick(0):
            await asyncio.sleep(TICK_SECONDS)


def _spare_the_collector() -> None:
    """Have Python's cycle collector leave alone what was made at start, and look less often at the rest.

    An answer of thousands of tokens is thousands of short-lived lists; by default every 700 of them are looked through, and now and then
    the whole process with them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _keep_freed_memory() -> None:
    """Have glibc keep up to _KEPT_BYTES of freed memory instead of giving it back to the kernel, which answers of some hundred kilobytes
    would otherwise fault in again, page by page, for every call. Without glibc nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another port with --port."
        ) from error
    return listener


if __name__ == "__main__":
    main()
