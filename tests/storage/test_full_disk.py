"""A disk that is full: which errors say so, and that what was written before stays whole."""

from __future__ import annotations

import errno
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from tunesmith.db.session import make_engine
from tunesmith.disk import trouble
from tunesmith.errors import NoRoom, Unavailable
from tunesmith.runs.files import JsonLines, read_json_lines, write_atomic
from tunesmith.settings import Settings
from tunesmith.storage.objects import ObjectStore

from tests.loop import machines


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 1 MB."""
    if not machines.can_mount():
        pytest.skip("mounts a small disk: needs root that may mount")
    folder = Path(tempfile.mkdtemp(prefix="ts"))
    try:
        with machines.small_disk(folder / "disk", 1) as mounted:
            yield mounted
    finally:
        shutil.rmtree(folder)


def fill_up(lines: JsonLines) -> None:
    for number in itertools.count(1):
        lines.append({"number": number, "text": "x" * 1000})


def test_lines_stay_whole_and_go_on_when_there_is_room(disk):
    lines = JsonLines(disk / "lines.jsonl")
    lines.append({"number": 0, "text": "x" * 1000})
    ballast = machines.fill(disk, leave=20_000)
    with pytest.raises(OSError, match="No space left"):
        fill_up(lines)
    assert (disk / "lines.jsonl").read_bytes().endswith(b"}\n"), "no part of the refused line stays"
    ballast.unlink()
    lines.append({"number": -1})
    lines.close()
    *numbers, last = [record["number"] for _, record in read_json_lines(disk / "lines.jsonl")]
    assert last == -1
    assert numbers == list(range(len(numbers)))


def test_a_file_is_the_old_one_or_the_new_one(disk):
    target = disk / "status.json"
    write_atomic(target, "old")
    machines.fill(disk, leave=8192)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, b"x" * 100_000)
    assert target.read_text() == "old"
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "status.json"]


def insert(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT randomblob(2000000) AS x")


def test_the_object_store_and_the_database_say_that_it_is_full(disk, tmp_path):
    source = tmp_path / "rows"
    source.write_bytes(b"x" * 2**21)
    store = ObjectStore.open(Settings(data_dir=disk))
    with pytest.raises(Exception) as refused:  # noqa: PT011 - whatever the library raises
        store.put_file("rows.jsonl", source)
    found = trouble(refused.value, disk)
    assert found
    assert "no space left" in found.message
    assert store.size("rows.jsonl") is None

    engine = make_engine(disk / "some.db")
    try:
        with pytest.raises(OperationalError) as full:
            insert(engine)
    finally:
        engine.dispose()
    assert trouble(full.value, disk)


def test_other_errors_are_left_alone():
    assert trouble(OSError(errno.ENOENT, "No such file")) is None
    assert trouble(sqlite3.OperationalError("no such table: jobs")) is None
    assert trouble(Unavailable("The engine does not answer.")) is None
    try:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        found = trouble(error)
    assert isinstance(found, NoRoom)
    assert "quota" in found.message
    read_only = trouble(OSError(errno.EROFS, "Read-only file system"), Path("/data"))
    assert read_only
    assert "/data" in read_only.message
