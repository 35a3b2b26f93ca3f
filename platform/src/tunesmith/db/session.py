"""Open the control plane's database: SQLite in WAL mode, brought up to date by Alembic before anybody reads it.

A session from `open_database` begins with BEGIN IMMEDIATE: it takes the write lock at once and waits for it up to 30 seconds,
because a transaction that reads first and asks for the lock later fails with SQLITE_BUSY however long one would wait.
What only reads goes through `reading`, which takes no lock and never waits for a writer.
Committed work survives kill -9 (WAL, synchronous NORMAL), not the loss of power.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.errors import FailedPrecondition

BUSY_TIMEOUT_MS = 30_000
_BEGIN = "sqlite_begin"
_MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(path: Path) -> sessionmaker[Session]:
    """Migrate the file at `path` (made if missing) and return the maker of its sessions.

    Use `with sessions.begin() as session:` for one transaction, `with reading(sessions) as session:` for queries.
    """
    migrate(path)
    return sessionmaker(make_engine(path), expire_on_commit=False)


def check_readable(path: Path) -> None:
    """Raise FailedPrecondition when the file at `path`, which may be missing, is no SQLite database or a damaged one."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise FailedPrecondition(
                f"{path} cannot be read ({error}). Bring it back from a backup (`tunesmith restore`), or start with another data folder."
            ) from error


@contextmanager
def reading(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A session on one consistent snapshot that takes no write lock. Nothing it does is kept."""
    engine: Engine = sessions.kw["bind"]
    with Session(engine.execution_options(**{_BEGIN: "DEFERRED"}), autoflush=False) as session:
        yield session  # closing rolls back without expiring what was read


def make_engine(path: Path, *, foreign_keys: bool = True) -> Engine:
    """An engine on the SQLite file; transactions are begun by us, not by the driver's guesses."""
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=10,
        max_overflow=40,
        connect_args={"check_same_thread": False},
        json_serializer=_json,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing on its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if (
            cursor.execute("PRAGMA page_count").fetchone()[0] == 0
        ):  # a new file: what is deleted later can be given back
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get(_BEGIN, "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _json(value: Any) -> str:
    """JSON text of a column. What msgspec does not take (half a surrogate pair, say) the standard library escapes."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError):
        return json.dumps(value)


def migrate(path: Path, revision: str = "head") -> None:
    """Bring the file to `revision`; a file lock lets one process do it while the others wait.

    Foreign keys are off meanwhile: batch mode rebuilds tables, and dropping the old one would cascade.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".migrate.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = make_engine(path, foreign_keys=False)
        try:
            with engine.begin() as connection:
                _migrate(connection, revision)
        finally:
            engine.dispose()


def _migrate(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {item.revision for item in script.walk_revisions()}:
        raise FailedPrecondition(
            f"The database is at revision {current}, which this version of Tunesmith does not know: "
            "it was written by a newer one. Start that version, or another data folder."
        )
    target = script.get_current_head() if revision == "head" else revision
    if current == target:
        return
    known = [item.revision for item in script.walk_revisions()]  # newest first
    down = target == "base" or (current in known and target in known and known.index(current) < known.index(target))
    (command.downgrade if down else command.upgrade)(config, target or "head")
