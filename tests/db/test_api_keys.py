"""Bearer keys: shown once, stored as digests, refused when wrong or expired."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import delete_keys_of_job, find_key, new_key
from tunesmith.db.session import open_database, reading

PEPPER = b"p" * 32


@pytest.fixture
def sessions(tmp_path: Path):
    sessions = open_database(tmp_path / "t.db")
    with sessions.begin() as session:
        ensure_account(session, "accounts/a")
    return sessions


def test_a_key_is_found_and_its_plaintext_is_not_stored(sessions, tmp_path: Path):
    with sessions.begin() as session:
        row, plaintext = new_key(session, "accounts/a", {"kind": "account"}, "first", None, PEPPER)
    with reading(sessions) as session:
        found = find_key(session, plaintext, PEPPER)
    assert found is not None
    assert (found.id, found.account, found.scope) == (row.id, "accounts/a", {"kind": "account"})
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert plaintext.encode() not in stored
    assert plaintext.split("_")[2].encode() not in stored


@pytest.mark.parametrize(
    "spoil", [lambda k: k[:-1] + ("0" if k[-1] != "0" else "1"), lambda k: k + "0", lambda k: "", lambda k: "é"]
)
def test_a_wrong_key_is_not_found(sessions, spoil):
    with sessions.begin() as session:
        _, plaintext = new_key(session, "accounts/a", {"kind": "account"}, "", None, PEPPER)
    with reading(sessions) as session:
        assert find_key(session, spoil(plaintext), PEPPER) is None
        assert find_key(session, plaintext, b"q" * 32) is None


def test_expired_keys_and_those_of_an_ended_job_are_not_found(sessions):
    with sessions.begin() as session:
        _, old = new_key(session, "accounts/a", {"kind": "account"}, "", time.time() - 1, PEPPER)
        scope = {"kind": "rollout", "job": "accounts/a/jobs/j"}
        row, revoked = new_key(session, "accounts/a", scope, "", time.time() + 60, PEPPER)
        other, kept = new_key(session, "accounts/a", {**scope, "job": "accounts/a/jobs/k"}, "", None, PEPPER)
        assert find_key(session, old, PEPPER) is None
        assert find_key(session, revoked, PEPPER) is row
        delete_keys_of_job(session, "accounts/a/jobs/j")
        assert find_key(session, revoked, PEPPER) is None
        assert find_key(session, kept, PEPPER) is other
