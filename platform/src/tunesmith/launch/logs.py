"""Keeps the log of a child from filling the disk: what passes the limit loses its middle, in place.

Children append (O_APPEND), so the file may be shortened under them: their next line goes to its new end. What a child writes in
the instant of the cut may be lost, and a line of that instant torn. Our own cuts lie between lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

LONGEST_LOG = 32 * 1024 * 1024
"""Bytes above which a log is cut."""
HEAD, TAIL = 1024 * 1024, 4 * 1024 * 1024
"""Bytes that are kept of its beginning and its end."""
WATCH_SECONDS = 0.5
"""How often its size is looked at: a fast writer may pass the limit by what it writes in that time."""
_NOTE = "\n... this log passed {} MiB; its middle was left out ...\n"


async def keep_short(path: Path, running: Callable[[], bool]) -> None:
    """Cut the log whenever it is too long, until the child has ended."""
    while True:
        last = not running()
        with contextlib.suppress(OSError):  # it was removed, or the disk is in trouble that others report better
            if path.stat().st_size > LONGEST_LOG:
                await asyncio.to_thread(cut, path)
        if last:
            return
        await asyncio.sleep(WATCH_SECONDS)


def cut(path: Path) -> None:
    """Leave `HEAD` bytes of the beginning and `TAIL` bytes of the end, to whole lines, with a line that says so between them."""
    with open(path, "r+b") as file:
        head = file.read(HEAD)
        file.seek(max(HEAD, path.stat().st_size - TAIL))
        tail = file.read(TAIL)
        file.seek(max(head.rfind(b"\n"), head.rfind(b"\r"), 0))
        file.write(_NOTE.format(LONGEST_LOG >> 20).encode())
        first = re.search(rb"[\r\n]", tail)
        file.write(tail[first.end() :] if first else b"")
        file.truncate()
