"""Whether anybody committed, for next to nothing: a watcher of the database reads it only when this number is another than before."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import PoolProxiedConnection


class DataVersion:
    """SQLite's `PRAGMA data_version` on one connection of its own, because the numbers of two connections cannot be compared.

    Opened at the first read, and anew at the first read after a close. Readers in several threads take turns.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._engine: Engine = sessions.kw["bind"]
        self._connection: PoolProxiedConnection | None = None

    def read(self) -> int:
        """A number that differs after a commit by any other connection, of this process or another. Raises sqlite3.Error."""
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        cursor = self._connection.cursor()
        try:
            return cursor.execute("PRAGMA data_version").fetchone()[0]
        finally:
            cursor.close()

    def close(self) -> None:
        """Give the connection back, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
