"""The table, and opening it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from eval_protocol.errors import ResultsError

BUSY_TIMEOUT_SECONDS = 30.0
SCHEMA_VERSION = 1
TABLE = """
CREATE TABLE IF NOT EXISTS rollouts (
    rollout_id TEXT PRIMARY KEY,
    invocation_id TEXT, experiment_id TEXT, run_id TEXT, row_id TEXT,
    name TEXT, model TEXT,
    status INTEGER NOT NULL,
    score REAL,
    is_score_valid INTEGER,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, process_started TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS rollouts_by_invocation ON rollouts
    (invocation_id, created, name, model, status, score, is_score_valid, host, pid, process_started);
CREATE INDEX IF NOT EXISTS rollouts_by_experiment ON rollouts (experiment_id, created);
CREATE INDEX IF NOT EXISTS rollouts_by_created ON rollouts (created);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open (and make) the store: WAL, so that readers never wait; synchronous NORMAL, so that a commit survives kill -9.

    Raises:
        ResultsError: it cannot be opened, or was written by a newer version.
    """
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # rows may hold what is private
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            connection.close()
            raise ResultsError(
                f"{path} was written by a newer version of eval_protocol; upgrade, or set EP_RESULTS_DB."
            )
        if version < SCHEMA_VERSION:
            connection.executescript(f"BEGIN IMMEDIATE; {TABLE} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        return connection
    except (OSError, sqlite3.Error) as error:
        raise ResultsError(
            f"The results store {path} cannot be opened: {error}. Move it away, or set EP_RESULTS_DB to another file."
        ) from error


def process_started(pid: int) -> str:
    """When a process began, in the kernel's own unit, so that a reused pid is not taken for it. Empty when it is gone or unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def is_alive(host: str, pid: int, started: str) -> bool:
    """Whether the process that wrote a row still runs. Unknown (another host) counts as alive."""
    if host != os.uname().nodename:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not started or process_started(pid) in ("", started)
