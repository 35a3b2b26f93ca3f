"""The tables, and opening them.

`rollouts` holds every rollout as it was last written; `summaries` is derived from it (see summaries.py) and is what readers query;
`logs` holds what was logged while a rollout ran.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from eval_protocol.errors import ResultsError
from eval_protocol.results.summaries import add_missing

BUSY_TIMEOUT_SECONDS = 30.0
SCHEMA_VERSION = 2
TABLES = """
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
DROP INDEX IF EXISTS rollouts_by_invocation;
DROP INDEX IF EXISTS rollouts_by_experiment;
DROP INDEX IF EXISTS rollouts_by_created;
CREATE TABLE IF NOT EXISTS summaries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout_id TEXT NOT NULL UNIQUE,
    invocation_id TEXT, experiment_id TEXT, run_id TEXT, row_id TEXT,
    name TEXT, model TEXT,
    status INTEGER NOT NULL, status_message TEXT NOT NULL,
    eval_status INTEGER, eval_message TEXT,
    score REAL, is_score_valid INTEGER, agg_score REAL,
    created REAL NOT NULL, updated REAL NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, process_started TEXT NOT NULL,
    turns INTEGER NOT NULL, metrics TEXT NOT NULL,
    prompt TEXT NOT NULL, answer TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS summaries_by_invocation ON summaries
    (invocation_id, created, name, model, status, eval_status, score, is_score_valid);
CREATE INDEX IF NOT EXISTS summaries_by_created ON summaries
    (created, name, model, status, eval_status, score, is_score_valid);
CREATE INDEX IF NOT EXISTS summaries_running ON summaries (host, pid, process_started) WHERE status = 101;
CREATE TABLE IF NOT EXISTS logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout_id TEXT NOT NULL,
    time REAL NOT NULL,
    level TEXT NOT NULL, number INTEGER NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    status TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS logs_by_rollout ON logs (rollout_id, id);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open (and make) the store: WAL, so that readers never wait; synchronous NORMAL, so that a commit survives kill -9.

    A store of version 1 is brought up to date in place, in one transaction: it keeps its rows.

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
            _upgrade(connection)
        return connection
    except (OSError, sqlite3.Error, ValueError) as error:
        raise ResultsError(
            f"The results store {path} cannot be opened: {error}. Move it away, or set EP_RESULTS_DB to another file."
        ) from error


def _upgrade(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in TABLES.split(";"):
            connection.execute(statement)
        add_missing(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


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
