"""The group-commit writer: one bad row, a full queue, callers that left, an end without loss."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, func, select
from tunesmith.db.group_commit import GroupCommitWriter
from tunesmith.db.session import make_engine
from tunesmith.errors import Unavailable

metadata = MetaData()
numbers = Table("numbers", metadata, Column("id", Integer, primary_key=True))


class Database:
    """A file with one table; `commits` counts the writer's transactions, `gate` holds them back while it is not set."""

    def __init__(self, path: Path, capacity: int = 4096) -> None:
        self.engine = make_engine(path)
        with self.engine.begin() as connection:
            metadata.create_all(connection)
        self.commits, self._begun = 0, False
        self.gate = threading.Event()
        self.gate.set()
        event.listen(self.engine, "checkout", self._trace)
        self.writer = GroupCommitWriter(self.engine, capacity)

    async def write(self, *ids: int) -> None:
        await self.writer.write(numbers, [{"id": id} for id in ids])

    def rows(self) -> int:
        self.gate.set()
        with self.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(numbers)) or 0

    def _trace(self, connection: Any, *_: Any) -> None:
        connection.set_trace_callback(self._seen)

    def _seen(self, statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" or (statement.startswith("INSERT") and not self._begun):
            assert self.gate.wait(10)
            self.commits += 1  # an insert by itself is a transaction, too
        self._begun = statement not in ("COMMIT", "ROLLBACK") and (self._begun or statement == "BEGIN IMMEDIATE")


@pytest.fixture
def database(tmp_path: Path):
    database = Database(tmp_path / "n.db")
    yield database
    database.gate.set()
    database.writer.close()
    database.engine.dispose()


async def test_a_burst_shares_its_commits_and_a_lone_write_does_not_wait(database: Database) -> None:
    await database.write(0)
    assert database.commits == 1
    database.gate.clear()
    tasks = [asyncio.create_task(database.write(n)) for n in range(1, 201)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks), "nobody is told before the commit"
    database.gate.set()
    await asyncio.gather(*tasks)
    assert database.commits <= 5
    assert database.rows() == 201


async def test_a_bad_row_fails_alone(database: Database) -> None:
    await database.write(1)
    database.gate.clear()
    tasks = [asyncio.create_task(database.write(n)) for n in (2, 1, 3)]
    await asyncio.sleep(0.05)
    database.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Unavailable, type(None)]
    assert "could not be recorded" in str(results[1])
    assert database.rows() == 3


async def test_a_full_queue_makes_callers_wait(tmp_path: Path) -> None:
    database = Database(tmp_path / "n.db", capacity=2)
    database.gate.clear()
    tasks = [asyncio.create_task(database.write(n)) for n in range(10)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks)
    database.gate.set()
    await asyncio.gather(*tasks)
    assert database.rows() == 10
    database.writer.close()
    database.engine.dispose()


async def test_rows_of_a_caller_that_left_are_written(database: Database) -> None:
    database.gate.clear()
    task = asyncio.create_task(database.write(1))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    database.gate.set()
    await asyncio.to_thread(database.writer.close)
    assert database.rows() == 1


async def test_closing_commits_what_is_queued_and_then_refuses(database: Database) -> None:
    database.gate.clear()
    tasks = [asyncio.create_task(database.write(n)) for n in range(20)]
    await asyncio.sleep(0.02)
    database.gate.set()
    await asyncio.to_thread(database.writer.close)
    await asyncio.gather(*tasks)
    assert database.rows() == 20
    with pytest.raises(Unavailable, match="shutting down"):
        await database.write(99)


async def test_a_row_that_cannot_be_encoded_is_refused_and_ends_nothing(database: Database) -> None:
    with pytest.raises(Unavailable, match="surrogates not allowed"):
        await database.writer.write(numbers, [{"id": "\ud800"}])
    await database.write(1)
    assert database.rows() == 1
