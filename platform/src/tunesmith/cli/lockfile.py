"""One supervisor per data folder: `up.lock` is held while it runs and says who it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO

from tunesmith.errors import FailedPrecondition


def hold(path: Path) -> IO[str]:
    """Take the lock; it is released when the file is closed or the process ends. Say who holds it with `sign`.

    Raises FailedPrecondition, naming the holder, when another supervisor has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = open(path, "a+")  # noqa: SIM115 - the lock lives as long as the file object
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = _holder(file.read())
        file.close()
        raise FailedPrecondition(
            f"Tunesmith runs already on {path.parent}: {who}. "
            "Use that one, stop it first, or start another platform with --data-dir and --port."
        ) from None
    file.truncate(0)
    return file


def sign(file: IO[str], port: int) -> None:
    """Write into the held lock who holds it, for a second supervisor to tell."""
    json.dump({"pid": os.getpid(), "port": port, "since": time.time()}, file)
    file.flush()


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} on port {holder['port']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "a process that has just started"
