"""Sessions: WAL, immediate write transactions, reads that never wait, migrations up and down."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError
from tunesmith.db.accounts import ensure_account
from tunesmith.db.session import make_engine, migrate, open_database, reading
from tunesmith.db.tables import Account, Base, Secret
from tunesmith.errors import FailedPrecondition


def test_pragmas_hold_on_every_connection(tmp_path: Path):
    sessions = open_database(tmp_path / "t.db")
    with sessions.begin() as one, reading(sessions) as two:
        for session in (one, two):
            values = {
                name: session.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            }
            assert values == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 30000, "foreign_keys": 1}


def test_a_read_does_not_wait_for_a_writer_and_sees_a_snapshot(tmp_path: Path):
    sessions = open_database(tmp_path / "t.db")
    with sessions.begin() as writer:
        ensure_account(writer, "accounts/a")
        started = time.monotonic()
        with reading(sessions) as reader:
            assert reader.scalars(select(Account)).all() == []
        assert time.monotonic() - started < 1
    with reading(sessions) as reader:
        assert [account.name for account in reader.scalars(select(Account))] == ["accounts/a"]


def test_read_then_write_from_many_threads_loses_no_update(tmp_path: Path):
    sessions = open_database(tmp_path / "t.db")
    with sessions.begin() as session:
        session.add(Account(name="accounts/a", display_name="0"))

    def add_ten():
        for _ in range(10):
            with sessions.begin() as session:
                account = session.get_one(Account, "accounts/a")
                account.display_name = str(int(account.display_name) + 1)

    threads = [threading.Thread(target=add_ten) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(sessions) as session:
        assert session.get_one(Account, "accounts/a").display_name == "80"


def test_foreign_keys_are_enforced(tmp_path: Path):
    sessions = open_database(tmp_path / "t.db")
    with pytest.raises(IntegrityError), sessions.begin() as session:
        session.add(Secret(name="accounts/x/secrets/s", account="accounts/x", key_name="s", ciphertext=b""))


def test_migrations_match_the_tables_and_go_down_and_up_again(tmp_path: Path):
    path = tmp_path / "t.db"
    migrate(path)
    engine = make_engine(path)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate(path, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(path)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path):
    path = tmp_path / "t.db"
    migrate(path)
    engine = make_engine(path)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'f999'"))
    engine.dispose()
    with pytest.raises(FailedPrecondition, match="written by a newer one"):
        open_database(path)


def test_those_who_start_together_migrate_once(tmp_path: Path):
    path = tmp_path / "t.db"
    with ThreadPoolExecutor(6) as pool:
        for result in [pool.submit(migrate, path) for _ in range(6)]:
            result.result()
