"""Forgetting what the gateway captured: rows of `completions.db` by job, answer files that no row names any more, and the space of both.

The gateway may be writing at the same time: every transaction here is short, and the answer file that it appends to is never touched.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tunesmith.db.session import BUSY_TIMEOUT_MS

_AT_ONCE = 500
"""Rows of one transaction."""
_PAGES_AT_ONCE = 2_000
ANSWER_SECONDS = 86_400.0
"""An answer file that was written to this recently is left alone."""
Owner = tuple[str, str]
"""Account (resource name) and short id of a job."""


def captured_size(path: Path, owner: Owner) -> tuple[int, int]:
    """(completions and log lines, bytes of their content) of a job."""
    if not path.exists():
        return 0, 0
    columns = ("prompt_ids", "sampled_ids", "logprobs", "request", "message", "text", "params", "usage")
    content = " + ".join(f"length({column})" for column in columns)
    with closing(_connect(path)) as connection:
        of_job = "WHERE account = ? AND job = ?"
        calls, size = connection.execute(
            f"SELECT count(*), coalesce(sum({content}), 0) FROM completions {of_job}", owner
        ).fetchone()
        lines, logged = connection.execute(
            f"SELECT count(*), coalesce(sum(size), 0) FROM logs {of_job}", owner
        ).fetchone()
    return calls + lines, size + logged


def forget_captured(path: Path, owner: Owner) -> None:
    """Delete everything of a job, some rows at a time: whoever writes meanwhile waits for no more than those."""
    picked = "SELECT rowid FROM {} WHERE account = ? AND job = ? LIMIT ?"
    with closing(_connect(path)) as connection:
        for table in ("completions", "closed_rollouts"):
            rows = f"DELETE FROM {table} WHERE rowid IN ({picked.format(table)})"
            while connection.execute(rows, (*owner, _AT_ONCE)).rowcount:
                pass
        while found := connection.execute(
            "SELECT id FROM logs WHERE account = ? AND job = ? LIMIT ?", (*owner, _AT_ONCE)
        ).fetchall():
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM log_tags WHERE log = ?", found)
            connection.executemany("DELETE FROM logs WHERE id = ?", found)
            connection.execute("COMMIT")


def unnamed_answers(path: Path, without: Sequence[Owner] = ()) -> list[Path]:
    """Answer files that no completion names; `without` those of jobs that are about to be forgotten.

    The newest file, and those that were written to within a day, are not among them: they may be the one that is appended to.
    """
    files = sorted(path.with_name("answers").glob("[0-9]*.bin"))
    recent = time.time() - ANSWER_SECONDS
    old = [file for file in files[:-1] if file.stat().st_mtime < recent]
    if not old:
        return []
    with closing(_connect(path)) as connection:
        query = "SELECT DISTINCT json_extract(answer, '$.file') FROM completions WHERE answer IS NOT NULL"
        for _ in without:
            query += " AND NOT (account = ? AND job IS ?)"
        named = {row[0] for row in connection.execute(query, [part for owner in without for part in owner])}
    return [file for file in old if file.name not in named]


def give_back(path: Path, *, alone: bool) -> int:
    """Return free pages of a SQLite file to the file system; bytes that it shrank by.

    Args:
        alone: nobody else has the file open: one that was made without incremental vacuum is rebuilt to have it from now on.
    """
    if not path.exists():
        return 0
    before = path.stat().st_size
    with closing(_connect(path)) as connection:
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
            if not alone:
                return 0
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
        while free := connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
            if connection.execute("PRAGMA freelist_count").fetchone()[0] >= free:
                break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return max(0, before - path.stat().st_size)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection
