"""Where a store's local UI listens, so that a run can point at it: `{store}.ui.json`, written by the UI and removed when it ends."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from eval_protocol.results.schema import is_alive, process_started


@dataclass(frozen=True)
class Presence:
    """A UI that runs, or ran."""

    pid: int
    port: int
    host: str
    started: str

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://localhost:{self.port}"


def presence_file(store: Path) -> Path:
    """Where the UI of a store says that it is there."""
    store = store.expanduser()
    return store.with_name(store.name + ".ui.json")


def announce(store: Path, port: int) -> Presence:
    """Say that this process serves the store on `port`. Raises OSError when the file cannot be written."""
    mine = Presence(os.getpid(), port, os.uname().nodename, process_started(os.getpid()))
    path = presence_file(store)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(mine)))
    temporary.replace(path)
    return mine


def find(store: Path) -> Presence | None:
    """The UI that serves a store now, or None."""
    try:
        found = Presence(**json.loads(presence_file(store).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    alive = found.host == os.uname().nodename and is_alive(found.host, found.pid, found.started)
    return found if alive else None


def withdraw(store: Path, mine: Presence) -> None:
    """Take back what `announce` said, unless another UI has said something since."""
    if find(store) == mine:
        presence_file(store).unlink(missing_ok=True)
