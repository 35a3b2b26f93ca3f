"""The queue's promises on a real SQLite file: one winner per claim, leases that run out, idempotent names, cancel and delete."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker
from tunesmith.db import jobs
from tunesmith.db.session import open_database
from tunesmith.db.tables import Account
from tunesmith.errors import NotFound

ACCOUNT = "accounts/local"


@pytest.fixture
def sessions(tmp_path: Path):
    maker = open_database(tmp_path / "tunesmith.db")
    with maker.begin() as session:
        session.add(Account(name=ACCOUNT))
    yield maker
    maker.kw["bind"].dispose()


def add(sessions: sessionmaker[Session], *names: str, kind: str = "work") -> None:
    for name in names:
        with sessions.begin() as session:
            jobs.enqueue(session, name, ACCOUNT, kind, {"n": name})
        time.sleep(0.002)  # `created` orders the queue


def claim(sessions: sessionmaker[Session], owner: str, lease: float = 30.0) -> str | None:
    with sessions.begin() as session:
        job = jobs.claim(session, owner, ["work"], lease)
        return job and job.name


def state(sessions: sessionmaker[Session], name: str) -> str:
    with sessions() as session:
        return jobs.get(session, name).state


def test_enqueue_is_idempotent_by_name(sessions):
    with sessions.begin() as session:
        jobs.enqueue(session, "a", ACCOUNT, "work", {"first": True})
    with sessions.begin() as session:
        assert jobs.enqueue(session, "a", ACCOUNT, "work", {"first": False}).spec == {"first": True}


def test_claims_are_oldest_first_of_the_asked_kinds_and_exclusive(sessions):
    add(sessions, "other", kind="rft")
    add(sessions, "a", "b")
    assert [claim(sessions, "w1"), claim(sessions, "w2"), claim(sessions, "w3")] == ["a", "b", None]
    assert state(sessions, "a") == jobs.RUNNING


def test_many_workers_never_share_a_job(sessions):
    add(sessions, *[f"j{i}" for i in range(12)])
    claimed: list[str] = []

    def work(owner: str) -> None:
        while (name := claim(sessions, owner)) is not None:
            claimed.append(name)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"j{i}" for i in range(12))


def test_an_expired_lease_is_claimed_again_and_the_first_owner_has_lost_it(sessions):
    add(sessions, "a")
    assert claim(sessions, "dead", lease=0.0) == "a"
    assert claim(sessions, "alive") == "a"
    with sessions.begin() as session:
        assert jobs.renew(session, "a", "dead", 30) is None
        assert not jobs.finish(session, "a", jobs.COMPLETED, {}, owner="dead")
        assert not jobs.set_progress(session, "a", {"percent": 1}, owner="dead")
        renewed = jobs.renew(session, "a", "alive", 30)
        assert renewed is not None
        assert renewed.attempts == 2


def test_release_gives_back_at_once_uncounted_or_later(sessions):
    add(sessions, "a")
    claim(sessions, "w")
    with sessions.begin() as session:
        assert jobs.release(session, "a", "w")
    assert claim(sessions, "w2") == "a"
    with sessions.begin() as session:
        assert jobs.get(session, "a").attempts == 1
        assert jobs.release(session, "a", "w2", delay=30, counted=True)
    assert claim(sessions, "w3") is None


def test_a_finished_job_is_never_claimed_and_keeps_its_first_end(sessions):
    add(sessions, "a")
    claim(sessions, "w", lease=0.0)
    with sessions.begin() as session:
        assert jobs.finish(session, "a", jobs.FAILED, {"code": "INTERNAL", "message": "x"}, owner="w")
    assert claim(sessions, "w") is None
    with sessions.begin() as session:
        assert not jobs.finish(session, "a", jobs.COMPLETED, {})
        assert jobs.request_cancel(session, "a").state == jobs.FAILED
    with sessions.begin() as session, pytest.raises(ValueError, match="not a final state"):
        jobs.finish(session, "a", jobs.RUNNING, {})


def test_cancelling_before_and_while_it_runs(sessions):
    add(sessions, "early", "late")
    with sessions.begin() as session:
        assert jobs.request_cancel(session, "early").state == jobs.CANCELLED
    assert claim(sessions, "w") == "late"
    with sessions.begin() as session:
        job = jobs.request_cancel(session, "late")
        assert (job.state, job.cancel_requested) == (jobs.CANCELLING, True)
        jobs.set_progress(session, "late", {"percent": 5}, state=jobs.RUNNING, owner="w")
    assert state(sessions, "late") == jobs.CANCELLING
    with sessions.begin() as session, pytest.raises(NotFound):
        jobs.request_cancel(session, "nobody")


def test_deletion_waits_for_the_holder_then_goes_to_a_worker(sessions):
    add(sessions, "a")
    claim(sessions, "w")
    with sessions.begin() as session:
        assert jobs.request_delete(session, "a").state == jobs.DELETING
        assert jobs.list_jobs(session, ACCOUNT, "work") == []
    assert claim(sessions, "w2") is None
    with sessions.begin() as session:
        jobs.finish(session, "a", jobs.CANCELLED, {}, owner="w")
    assert claim(sessions, "w2") == "a"
    with sessions.begin() as session:
        assert not jobs.remove(session, "a", "w")
        assert jobs.remove(session, "a", "w2")
    with sessions() as session, pytest.raises(NotFound):
        jobs.get(session, "a")


def test_a_job_that_is_not_pending_yet_is_left_alone(sessions):
    with sessions.begin() as session:
        jobs.enqueue(session, "a", ACCOUNT, "work", {}, state="JOB_STATE_CREATING")
    assert claim(sessions, "w") is None
