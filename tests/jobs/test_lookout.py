"""A worker's look at the database: only when somebody committed, when it asks for something else, or when leases may have run out."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session, sessionmaker
from tunesmith.db import jobs
from tunesmith.jobs import lookout
from tunesmith.jobs.lookout import Look, Lookout
from tunesmith.settings import Settings

from tests.jobs.conftest import ACCOUNT

NAME = f"{ACCOUNT}/reinforcementFineTuningJobs/j"


@pytest.fixture
def looking(settings: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 3600.0)
    found = Lookout(sessions, "me", settings.data_dir)
    yield found
    found.close()


def enqueue(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", {})


async def seen(looking: Lookout, held: list[str] | None = None, *, claims: bool = True) -> Look | None:
    return await looking.look(held or [], ["rft", "sft"], claims=claims)


async def test_what_nobody_changed_is_not_read_again(looking: Lookout, sessions: sessionmaker[Session]) -> None:
    first = await seen(looking)
    assert first is not None
    assert first.claimable == set()
    assert first.free > 0
    assert await seen(looking) is None
    enqueue(sessions)
    after = await seen(looking)
    assert after is not None
    assert after.claimable == {"rft"}
    assert await seen(looking) is None
    assert await seen(looking, claims=False) is not None
    assert await seen(looking, [NAME], claims=False) is not None


async def test_a_held_job_is_ours_until_another_takes_it_and_says_when_it_shall_end(
    looking: Lookout, sessions: sessionmaker[Session]
) -> None:
    enqueue(sessions)
    with sessions.begin() as session:
        jobs.claim(session, "me", ["rft"], 60.0)
    held = await seen(looking, [NAME, "gone"])
    assert held is not None
    assert held.held == {NAME: (True, False), "gone": (False, False)}
    assert held.claimable == set()
    with sessions.begin() as session:
        jobs.request_cancel(session, NAME)
    cancelled = await seen(looking, [NAME])
    assert cancelled is not None
    assert cancelled.held == {NAME: (True, True)}
    with sessions.begin() as session:
        jobs.expire_leases(session, "me")
        jobs.claim(session, "another", ["rft"], 60.0)
    lost = await seen(looking, [NAME])
    assert lost is not None
    assert not lost.held[NAME][0]


async def test_leases_run_out_without_a_commit(looking: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await seen(looking) is not None
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.0)
    assert await seen(looking) is not None
