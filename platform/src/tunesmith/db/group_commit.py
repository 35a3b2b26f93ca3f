"""A bounded group-commit writer: many callers, one thread, one transaction for everything that waits.

A lone write waits for nobody; those that come soon after a commit wait a moment for each other, since a commit costs as much as
twenty inserts. `write` returns after COMMIT:
what it returned for is found after kill -9 of this process. When the queue is full, callers wait (backpressure).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Protocol

from sqlalchemy import Column, Engine, PoolProxiedConnection, Table

from tunesmith.disk import trouble
from tunesmith.errors import TunesmithError, Unavailable

log = logging.getLogger(__name__)

MAX_GROUP = 256
"""Most writes of one transaction; keeps a transaction's size, and so everyone's wait, bounded."""
_MOST_ROWS = 32
"""Of one insert. So many statements are prepared for a table at most, each once; the driver keeps 128 of all."""
PAUSE_SECONDS = 0.002
"""Least time from the end of a commit to the begin of the next."""


@dataclass(frozen=True)
class _Write:
    table: Table
    rows: Sequence[Mapping[str, Any]]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Outside(Protocol):
    """Where values are written that do not go into the database."""

    def take(self, value: Any, /) -> Any:
        """Take a value to write; what is returned goes into the column."""
        ...

    def write(self) -> None:
        """Write everything taken since the last time. Raises OSError, and then nothing that was taken counts."""
        ...


class GroupCommitWriter:
    """The only writer of a database file. Made open; `close` commits what is queued and ends the thread."""

    def __init__(
        self,
        engine: Engine,
        capacity: int = 4096,
        outside: Mapping[Column[Any], Outside] | None = None,
    ) -> None:
        """`outside`: columns whose values are written elsewhere, in the writer's thread and before the transaction."""
        self._engine = engine
        self._outside = dict(outside or {})
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()  # a Queue's locks cost more than an insert
        self._capacity = capacity
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        """Callers that wait for room in the queue, in order."""
        self._closed = False
        self._committed = 0.0
        """When the last commit ended, by the monotonic clock."""
        self._pooled: PoolProxiedConnection | None = None
        self._columns: dict[tuple[Table, tuple[str, ...]], list[tuple[str, Any]]] = {}
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def write(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows and return once they are committed. A cancelled caller's rows are still written.

        Raises NoRoom when the disk is full, Unavailable when a row breaks a constraint, or after `close`.
        """
        if self._closed:
            raise Unavailable("This process is shutting down and records nothing any more; try again in a moment.")
        if not rows:
            return
        loop = asyncio.get_running_loop()
        item = _Write(table, rows, loop, loop.create_future())
        while self._queue.qsize() >= self._capacity:
            room = loop.create_future()
            self._waiting.append((loop, room))
            if self._queue.qsize() >= self._capacity:  # else the writer may have looked before we were in the list
                await room
            room.cancel()
            if not self._thread.is_alive():  # closed while this one waited for room: nobody reads the queue any more
                raise Unavailable("This process is shutting down and records nothing any more; try again in a moment.")
        self._queue.put(item)
        await item.done

    def close(self) -> None:
        """Commit everything queued so far, then stop. Blocks until done."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            self._call_in()
            if group:
                self._commit(group)
                self._committed = time.monotonic()
        if self._pooled is not None:
            self._pooled.close()
        self._call_in()

    def _call_in(self) -> None:
        """Wake callers for whom there is room now."""
        woken, room_left = 0, self._capacity - self._queue.qsize()
        while self._waiting and woken < max(1, room_left):
            loop, room = self._waiting.popleft()
            if room.done():  # gave up waiting
                continue
            woken += 1
            with contextlib.suppress(RuntimeError):  # its event loop is closed, and nobody waits
                loop.call_soon_threadsafe(_settle, [(room, None)])

    def _next_group(self) -> tuple[list[_Write], bool]:
        """Wait for one write, then take whatever else is there already."""
        group: list[_Write] = []
        item = self._queue.get()
        pause = self._committed + PAUSE_SECONDS - time.monotonic()
        if pause > 0 and not self._closed:
            time.sleep(pause)
        while item is not None:
            group.append(item)
            if len(group) == MAX_GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[_Write]) -> None:
        try:
            self._insert(group)
        except Exception as error:  # noqa: BLE001 - a row that the driver cannot encode must not end the thread that all wait for
            if len(group) == 1:
                log.error("A write was refused by %s: %s", self._engine.url, error)
                if full := trouble(error):
                    _tell(group, full)
                    return
                reason = str(getattr(error, "orig", None) or error)
                _tell(group, Unavailable(f"What was asked could not be recorded ({reason}); nothing of it is kept."))
                return
            for item in group:  # one bad row must not take its neighbours with it
                self._commit([item])
            return
        _tell(group, None)

    def _insert(self, group: list[_Write]) -> None:
        """One transaction. SQLAlchemy's own way through an insert costs more than the insert."""
        rows: dict[tuple[Table, tuple[str, ...]], list[Mapping[str, Any]]] = {}
        for item in group:
            rows.setdefault((item.table, tuple(item.rows[0])), []).extend(item.rows)
        inserts = []
        for (table, names), inserted in rows.items():
            written = self._written(table, names)
            values = [[row[name] if write is None else write(row[name]) for name, write in written] for row in inserted]
            inserts += _statements(table.name, names, values)
        for outside in self._outside.values():
            outside.write()
        connection = self._connected()
        if len(inserts) == 1:  # a transaction by itself
            connection.execute(*inserts[0])
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in inserts:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        """The writer's own connection, open until `close`: fetching one from the pool for every commit costs more than the commit."""
        if self._pooled is None:
            self._pooled = self._engine.raw_connection()
        connection = self._pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def _written(self, table: Table, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """How each column's values are written for the driver (None: as they are)."""
        known = self._columns.get((table, names))
        if known is None:
            dialect = self._engine.dialect
            known = self._columns[table, names] = [
                (
                    name,
                    self._outside[column].take
                    if (column := table.c[name]) in self._outside
                    else column.type.dialect_impl(dialect).bind_processor(dialect),
                )
                for name in names
            ]
        return known


def _statements(table: str, names: tuple[str, ...], rows: list[list[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Inserts of many rows each: the driver lets go of the interpreter at every statement, and getting it back from the event loop's
    thread costs more than the row."""
    for start in range(0, len(rows), _MOST_ROWS):
        part = rows[start : start + _MOST_ROWS]
        yield _insert_of(table, names, len(part)), list(chain.from_iterable(part))


@cache
def _insert_of(table: str, names: tuple[str, ...], count: int) -> str:
    """OR ROLLBACK: a row that breaks a constraint ends the transaction, so SQLite need not keep what the statement changed in a file of its
    own, to undo it alone; the group is written again row by row then."""
    columns = ", ".join(f'"{name}"' for name in names)
    row = f"({', '.join('?' * len(names))})"
    return f'INSERT OR ROLLBACK INTO "{table}" ({columns}) VALUES {", ".join([row] * count)}'


def _tell(group: list[_Write], error: TunesmithError | None) -> None:
    """Tell the callers of a group how it ended, each event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], TunesmithError | None]]] = {}
    for item in group:
        loops.setdefault(item.loop, []).append((item.done, error))
    for loop, done in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, done)
        except RuntimeError:
            log.debug("The caller's event loop was closed before its rows were committed.")


def _settle(ended: Sequence[tuple[asyncio.Future[None], TunesmithError | None]]) -> None:
    for done, error in ended:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
            done.exception()  # a caller that went away must not turn this into a warning
