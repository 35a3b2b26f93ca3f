"""Reading the store from the event loop: a few threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from eval_protocol.errors import UsageError
from eval_protocol.results.schema import connect

P = ParamSpec("P")
R = TypeVar("R")
THREADS = 3
LONGEST_SECONDS = 30.0
CACHE_KIBIBYTES = 8192
"""Pages that each connection keeps; the operating system caches the file anyway."""


class Reader:
    """Runs queries over the store. A query that takes too long is stopped.

    Args:
        path: the SQLite file; made when it is not there. One that was put in its place later is taken up.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="results-reader")
        self._local = threading.local()
        self._connections: set[sqlite3.Connection] = set()
        connect(self.path).close()

    async def run(self, query: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`query(connection, ...)` in a thread, over one unchanging state of the store.

        Raises:
            UsageError: it took longer than 30 s.
            ResultsError: the store cannot be opened.
        """
        running: list[sqlite3.Connection] = []

        def work() -> R:
            connection = self._connection()
            running.append(connection)
            connection.execute("BEGIN")
            try:
                return query(connection, *args, **kwargs)
            finally:
                running.clear()
                connection.execute("ROLLBACK")

        task = asyncio.get_running_loop().run_in_executor(self._threads, work)
        done, _ = await asyncio.wait({task}, timeout=LONGEST_SECONDS)
        if not done:
            for connection in running:
                connection.interrupt()
        try:
            return await task
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise UsageError(
                    f"The question took longer than {LONGEST_SECONDS:g} s. Filter by an invocation first, or choose another field."
                ) from error
            raise

    async def write(self, change: Callable[[sqlite3.Connection], R]) -> R:
        """`change(connection)` in a thread; it makes its own transaction."""

        def work() -> R:
            connection = connect(self.path)
            try:
                return change(connection)
            finally:
                connection.close()

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def separate(self) -> sqlite3.Connection:
        """A connection for one long read, which the caller closes."""
        return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection, to the file that is there now."""
        try:
            file = os.stat(self.path).st_ino
        except FileNotFoundError:
            file = None
        known: tuple[int, sqlite3.Connection] | None = getattr(self._local, "known", None)
        if known is not None and known[0] == file:
            return known[1]
        if known is not None:
            self._connections.discard(known[1])
            known[1].close()
        connection = self._open()
        self._connections.add(connection)
        self._local.known = (os.stat(self.path).st_ino, connection)
        return connection

    def close(self) -> None:
        """End the threads and close their connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()
