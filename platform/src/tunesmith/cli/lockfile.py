"""One supervisor per data folder: `up.lock` is held while it runs and says who it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tunesmith.errors import FailedPrecondition


@dataclass(frozen=True)
class Running:
    """A platform of this machine."""

    data_dir: Path
    pid: int
    port: int


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


def running() -> list[Running]:
    """The platforms that run on this machine, of those whose processes this user may look at; none where there is no /proc."""
    found: list[Running] = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            opened = [os.readlink(link) for link in folder.iterdir()]
        except OSError:  # another user's, or gone
            continue
        for path in {Path(name) for name in opened if name.endswith("/up.lock")}:
            try:
                holder = json.loads(path.read_text())
                if int(holder["pid"]) == int(folder.parent.name):
                    found.append(Running(path.parent, int(holder["pid"]), int(holder["port"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # it has not signed yet
    return sorted(found, key=lambda each: each.pid)


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} on port {holder['port']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "a process that has just started"
