"""Imported by Python itself in every process of a platform whose PYTHONPATH names this folder: kills at an exact place.

While `armed.json` lies in the folder that KILLS_FOLDER names, each process compares what it is about to do (a file written, read,
renamed or removed; a row inserted; a transaction committed) with what is armed, and the first that fits sends SIGKILL, itself last,
right before the act, or right after a commit (`committed`). Nothing in the product knows of this file.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sqlite3.dbapi2
import sys
import threading
from typing import Any

_FOLDER = os.environ.get("KILLS_FOLDER", "")
_ARMED = os.path.join(_FOLDER, "armed.json")
_busy = threading.local()
_plain_connect = sqlite3.connect
_INSERT = re.compile(r"\s*INSERT (?:OR \w+ )?INTO \"?(\w+)")


def _about_to(act: str, target: str) -> None:
    """Compare an act with what is armed."""
    if getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        os.stat(_ARMED)
        with open(_ARMED) as file:
            armed = json.load(file)
        if armed["act"] == act and armed["module"] in sys.orig_argv and re.search(armed["where"], target):
            os.rename(
                _ARMED, os.path.join(_FOLDER, f"fired-{armed['number']}.json")
            )  # one process only gets beyond this
            for pid in sorted(armed["pids"], key=lambda pid: pid == os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
    except (OSError, ValueError):
        return
    finally:
        _busy.now = False


def _audit(event: str, arguments: tuple) -> None:
    if event == "open":
        writes = any(letter in str(arguments[1]) for letter in "wax+")
        _about_to("write" if writes else "read", str(arguments[0]))
    elif event == "os.rename":
        _about_to("rename", f"{arguments[0]} {arguments[1]}")
    elif event in ("os.remove", "os.link"):
        _about_to(event.removeprefix("os."), str(arguments[0]))


class _Connection(sqlite3.Connection):
    """A connection that says what it does. An insert outside a transaction is one by itself: it has no moment before its commit."""

    inserted: list[str]
    """Tables inserted into since the last transaction began."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """As ever; right after a statement that ended a transaction the connection's owner knows nothing of it yet."""
        cursor = super().execute(*arguments)
        if self.inserted and not self.in_transaction:
            _about_to("committed", " ".join(self.inserted))
            self.inserted.clear()
        return cursor

    def look(self, statement: str) -> None:
        """Called with every statement before it runs."""
        if found := _INSERT.match(statement):
            self.inserted.append(found[1])
            _about_to("insert", found[1])
        elif statement.startswith("COMMIT"):
            _about_to("commit", " ".join(self.inserted))
        elif statement.startswith(("BEGIN", "ROLLBACK")):
            self.inserted.clear()


def _connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """`sqlite3.connect`, and every statement is looked at before it runs."""
    connection = _plain_connect(*arguments, **{"factory": _Connection, **options})
    if isinstance(connection, _Connection):
        connection.inserted = []
        connection.set_trace_callback(connection.look)
    return connection


if _FOLDER:
    sys.addaudithook(_audit)
    sqlite3.connect = sqlite3.dbapi2.connect = _connect
