"""`completions.db`: files of the first version open, newer ones are refused, log lines are found by their tags."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect
from tunesmith.db.captured import STEPS, CapturedFile
from tunesmith.db.completions import CompletionStore
from tunesmith.db.rollout_logs import LogFilter, LogLine, LogStore
from tunesmith.errors import FailedPrecondition

FIRST_VERSION = """
CREATE TABLE completions (
    id VARCHAR NOT NULL PRIMARY KEY, created_at FLOAT NOT NULL, account VARCHAR NOT NULL, job VARCHAR, invocation_id VARCHAR,
    experiment_id VARCHAR, run_id VARCHAR, row_id VARCHAR, rollout_id VARCHAR, turn INTEGER NOT NULL, "index" INTEGER NOT NULL,
    model VARCHAR NOT NULL, base_model VARCHAR NOT NULL, policy_version INTEGER, prompt_ids BLOB NOT NULL,
    sampled_ids BLOB NOT NULL, logprobs BLOB NOT NULL, temperature FLOAT NOT NULL, finish_reason VARCHAR, status VARCHAR NOT NULL,
    request JSON NOT NULL, message JSON NOT NULL, text TEXT NOT NULL, params JSON NOT NULL, usage JSON NOT NULL,
    latency FLOAT NOT NULL);
CREATE INDEX completions_by_rollout ON completions (rollout_id, turn, "index");
CREATE INDEX completions_by_invocation ON completions (invocation_id);
CREATE INDEX completions_by_time ON completions (created_at);
"""


def old_file(path: Path) -> None:
    """A file as the first issue's platform wrote it: two candidates of one call, and a cut one without usage."""
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_VERSION)
    usage = '{"prompt_tokens": 3, "completion_tokens": 2}'
    ids, sampled = b"\1\0\0\0" * 3, b"\2\0\0\0" * 2
    for name, index, used in (("a-0", 0, usage), ("a-1", 1, usage), ("b-0", 0, "{}")):
        connection.execute(
            "INSERT INTO completions VALUES (?,1.5,'accounts/a','j',NULL,NULL,NULL,NULL,'r',0,?,'m','m',0,?,?,?,1.0,'stop',"
            "'complete','{}','{}','t','{}',?,0.1)",
            (name, index, ids, sampled, b"\0" * 8, used),
        )
    connection.commit()
    connection.close()


async def test_a_file_of_the_first_version_opens_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "completions.db"
    old_file(path)
    store = CompletionStore(path)
    try:
        found = store.of_rollout("r")
        assert [(c.id, c.prompt_ids, c.sampled_ids) for c in found] == [
            ("a-0", [1, 1, 1], [2, 2]),
            ("b-0", [1, 1, 1], [2, 2]),
            ("a-1", [1, 1, 1], [2, 2]),
        ]
        assert await store.tokens_of_job("accounts/a", "j") == 5 + 2 + 5
        await store.add([found[0].__class__(**{**vars(found[0]), "id": "c-0"})])
        assert await store.tokens_of_job("accounts/a", "j") == 12 + 5
    finally:
        store.close()
    again = CompletionStore(path)
    assert await again.tokens_of_job("accounts/a", "j") == 17
    again.close()


def test_an_upgraded_file_has_the_tables_and_indexes_of_a_new_one(tmp_path: Path) -> None:
    old_file(tmp_path / "old.db")
    shapes = []
    for name in ("old.db", "new.db"):
        file = CapturedFile(tmp_path / name)
        found = inspect(file.engine)
        shapes.append(
            {
                table: (
                    {column["name"] for column in found.get_columns(table)},
                    {(index["name"], tuple(index["column_names"])) for index in found.get_indexes(table)},
                )
                for table in found.get_table_names()
            }
        )
        file.close()
    assert shapes[0] == shapes[1]


def test_those_who_open_an_old_file_together_upgrade_it_once(tmp_path: Path) -> None:
    old_file(tmp_path / "c.db")
    with ThreadPoolExecutor(4) as pool:
        for opened in [pool.submit(CapturedFile, tmp_path / "c.db") for _ in range(4)]:
            opened.result().close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "c.db")
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    with pytest.raises(FailedPrecondition, match="written by a newer one"):
        CapturedFile(tmp_path / "c.db")


@pytest.fixture
def file(tmp_path: Path):
    file = CapturedFile(tmp_path / "completions.db")
    yield file
    file.close()


async def post(store: LogStore, message: str, tags: list[str], account: str = "accounts/a", **fields) -> LogLine:
    values = {"job": None, "program": "eval_protocol", "severity": "INFO", "status": None, "extras": {}, "size": 10}
    line = LogLine(id=store.next_id(), account=account, message=message, tags=tags, **{**values, **fields})
    await store.add(line)
    return line


async def test_lines_are_found_by_all_of_their_tags_newest_first(file: CapturedFile) -> None:
    store = LogStore(file)
    first = await post(store, "one", ["rollout_id:r", "run_id:n", "rollout_id:r"])
    second = await post(store, "two", ["rollout_id:r", "rollout_id:s"], program="other")
    await post(store, "theirs", ["rollout_id:r"], account="accounts/b")

    def found(*tags: str, account: str | None = "accounts/a", job: str | None = None, **wanted) -> list[str]:
        return [line.message for line in store.find(LogFilter(tags, **wanted), account, job)]

    assert found("rollout_id:r") == ["two", "one"]
    assert found("rollout_id:r", account=None) == ["theirs", "two", "one"]
    assert found("rollout_id:s") == ["two"]
    assert found("run_id:n", "rollout_id:r") == ["one"]
    assert found("run_id:n", "rollout_id:s") == []
    assert found() == ["two", "one"]
    assert found(limit=1) == ["two"]
    assert found(program="eval_protocol") == ["one"]
    assert found(since=(first.id + second.id) / 2e9) == ["two"]
    assert found(since=second.id / 1e9 + 1) == []
    assert found(until=first.id / 1e9 - 1) == []
    assert store.find(LogFilter(["run_id:n"]), "accounts/a", None) == [first]


async def test_a_job_sees_its_own_lines_and_its_accounts(file: CapturedFile) -> None:
    store = LogStore(file)
    for job in ("j", "k", None):
        await post(store, f"of {job}", ["rollout_id:r"], job=job, status={"code": 100, "message": "", "details": []})
    assert [line.message for line in store.find(LogFilter(["rollout_id:r"]), "accounts/a", "j")] == ["of None", "of j"]
    posted, closed = store.state_of("accounts/a", "r")
    assert {job: (lines.count, lines.size, lines.last and lines.last.message) for job, lines in posted.items()} == {
        "j": (1, 10, "of j"),
        "k": (1, 10, "of k"),
        None: (1, 10, "of None"),
    }
    assert closed == {}
    await store.close_rollout("accounts/a", "j", "r", 5.0)
    assert store.state_of("accounts/a", "r")[1] == {"j": 5.0}
    assert store.state_of("accounts/b", "r") == ({}, {})


async def test_ids_of_lines_grow_also_over_a_restart(file: CapturedFile) -> None:
    store = LogStore(file)
    line = await post(store, "x", [])
    assert LogStore(file).next_id() > line.id
    ids = [store.next_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
