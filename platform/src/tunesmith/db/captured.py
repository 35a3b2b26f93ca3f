"""`completions.db`: the file of what the gateway captured, its tables, and how an older file is brought up to date.

The file has a version (`PRAGMA user_version`) and steps of its own: it is written on the hot path by one writer, and whatever holds
only training data can be deleted without touching the control plane. A new file is made whole; step k leads from version k - 1 to k.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db.answers import AnswerFiles
from tunesmith.db.group_commit import GroupCommitWriter
from tunesmith.db.session import BUSY_TIMEOUT_MS, make_engine
from tunesmith.errors import FailedPrecondition, InvalidArgument

LARGEST_ANSWER = 256 * 2**20
"""Bytes of records that are read for one answer."""

metadata = MetaData()

completions = Table(
    "completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("account", String, nullable=False),
    Column("job", String),
    Column("invocation_id", String),
    Column("experiment_id", String),
    Column("run_id", String),
    Column("row_id", String),
    Column("rollout_id", String),
    Column("turn", Integer, nullable=False),
    Column("index", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("base_model", String, nullable=False),
    Column("policy_version", Integer),
    Column("prompt_ids", LargeBinary, nullable=False),
    Column("sampled_ids", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, nullable=False),
    Column("temperature", Float, nullable=False),
    Column("finish_reason", String),
    Column("status", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("message", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("usage", JSON, nullable=False),
    Column("latency", Float, nullable=False),
    Column("tokens", Integer, nullable=False, server_default="0"),
    Column("answer", Text),
    Index("completions_by_rollout", "rollout_id", "turn", "index"),
    Index("completions_by_invocation", "invocation_id"),
    Index("completions_by_time", "created_at"),
    Index("completions_by_job", "job", "account", "tokens", sqlite_where=text("job IS NOT NULL")),
)
"""`tokens` counts for the budget of a job's key; the index by job holds it, so that a sum reads no rows.

`answer` says where the answer of an upstream is kept as it came (`db.answers`); message, text, log-probabilities and what else the row
leaves empty are read from there.
"""

logs = Table(
    "logs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", String, nullable=False),
    Column("job", String),
    Column("program", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("severity", String, nullable=False),
    Column("status_code", Integer),
    Column("status", JSON(none_as_null=True)),
    Column("tags", JSON, nullable=False),
    Column("extras", JSON, nullable=False),
    Column("size", Integer, nullable=False),
    Index("logs_by_account", "account", "id"),
)
"""Posted log lines. An id is the time of arrival in nanoseconds, made unique: later lines have greater ids."""

log_tags = Table(
    "log_tags",
    metadata,
    Column("tag", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("log", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

closed_rollouts = Table(
    "closed_rollouts",
    metadata,
    Column("rollout_id", String, nullable=False),
    Column("account", String, nullable=False),
    Column("job", String),
    Column("closed_at", Float, nullable=False),
    Index("closed_rollouts_by_id", "rollout_id", "account"),
)
"""Rollouts that take no more calls; None as job: of every job of the account."""


def _count_tokens_and_make_logs(connection: Connection) -> None:
    """1: completions know their tokens; logs and closed rollouts exist."""
    connection.exec_driver_sql("ALTER TABLE completions ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql(
        "UPDATE completions SET tokens = coalesce(json_extract(usage, '$.completion_tokens'), length(sampled_ids) / 4)"
        " + CASE \"index\" WHEN 0 THEN coalesce(json_extract(usage, '$.prompt_tokens'), length(prompt_ids) / 4) ELSE 0 END"
    )
    connection.exec_driver_sql(
        "CREATE INDEX completions_by_job ON completions (job, account, tokens) WHERE job IS NOT NULL"
    )
    metadata.create_all(connection, [logs, log_tags, closed_rollouts])


def _keep_answers_as_they_came(connection: Connection) -> None:
    """2: what upstreams answered may lie in a file of its own."""
    connection.exec_driver_sql("ALTER TABLE completions ADD COLUMN answer TEXT")


STEPS: list[Callable[[Connection], None]] = [_count_tokens_and_make_logs, _keep_answers_as_they_came]
"""Append only. A step that makes a table writes it out as it was then once a later step changes it."""


class CapturedFile:
    """The open file: sessions to read with (`db.session.reading`) and the one writer. Stores share it."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, made if missing. Raises FailedPrecondition when a newer version of Tunesmith wrote it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = make_engine(path)
        with self.engine.begin() as connection:  # takes the write lock: those who open it together migrate once
            _migrate(connection, path)
        self.sessions: sessionmaker[Session] = sessionmaker(self.engine)
        self.answers = AnswerFiles(path.with_name("answers"))
        self.writer = GroupCommitWriter(self.engine, outside={completions.c.answer: self.answers})
        self._lookups = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lookups.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    def has(self, query: str, *values: object) -> bool:
        """Whether a query finds a row. On the caller's thread: a look-up in an index takes microseconds and waits for no writer,
        where a session in another thread costs most of a millisecond. For one thread (the event loop's)."""
        return self._lookups.execute(query, values).fetchone() is not None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query, read as `has` looks; for few of them."""
        return self._lookups.execute(query, values).fetchall()

    def close(self) -> None:
        """Commit what is queued and close the file."""
        self.writer.close()
        self.answers.close()
        self._lookups.close()
        self.engine.dispose()


def check_size(session: Session, query: Select[Any], size: ColumnElement[int]) -> None:
    """Raise InvalidArgument where the rows of a query are larger than what one answer may hold: agents write them as large as they like."""
    sizes = query.with_only_columns(size.label("size")).subquery()
    total = session.execute(select(func.coalesce(func.sum(sizes.c.size), 0))).scalar_one()
    if total > LARGEST_ANSWER:
        raise InvalidArgument(
            f"What was asked for holds {total:,} bytes; at most {LARGEST_ANSWER:,} are read at once. Ask for fewer (limit), "
            "or name the rollout (tags)."
        )


def check_known(path: Path) -> None:
    """Raise FailedPrecondition when a newer version of Tunesmith wrote the file at `path`, which may be missing."""
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            _check(connection.execute("PRAGMA user_version").fetchone()[0], path)


def _check(version: int, path: Path) -> None:
    if version > len(STEPS):
        raise FailedPrecondition(
            f"{path} is at version {version}, which this version of Tunesmith does not know (it knows {len(STEPS)}): "
            "it was written by a newer one. Start that version, or move the file away."
        )


def _migrate(connection: Connection, path: Path) -> None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    _check(version, path)
    if version == len(STEPS):
        return
    if inspect(connection).has_table("completions"):
        for step in STEPS[version:]:
            step(connection)
    else:
        metadata.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {len(STEPS)}")
