"""The worker with small handlers: ends, retries, cancels, deletes, leases lost and given back, children that never outlive a job."""

from __future__ import annotations

import asyncio
import errno
import sys
import time

import pytest
from tunesmith.db import jobs
from tunesmith.db.session import reading
from tunesmith.db.tables import Account, Job
from tunesmith.errors import InvalidArgument, Unavailable
from tunesmith.jobs import Handler, Outcome, worker
from tunesmith.jobs.handler import MAX_ATTEMPTS
from tunesmith.jobs.identity import is_dead, own_name

from tests.jobs.conftest import ACCOUNT, final, until, working


class Work(Handler):
    """Does what the spec says."""

    kind = "work"

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.running = self.most = 0
        self.discarded: list[str] = []
        self.children: list = []
        self.full = self.rooms = False

    async def run(self, job, context):
        self.runs.append(job.id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await getattr(self, job.spec["do"])(job, context)
        finally:
            self.running -= 1

    async def succeed(self, job, context):
        await context.progress({"percent": 50}, state="JOB_STATE_VALIDATING")
        return Outcome(jobs.COMPLETED, "done")

    async def refuse(self, job, context):
        raise InvalidArgument("Line 3 of the dataset is not JSON.")

    async def flicker(self, job, context):
        if job.attempts == 1:
            raise Unavailable("The engine does not answer.")
        return Outcome(jobs.COMPLETED)

    async def explode(self, job, context):
        raise KeyError("secret detail")

    async def move_on(self, job, context):
        if "percent" in job.progress:
            return Outcome(jobs.COMPLETED)
        await context.progress({"percent": 50}, moved_on=True)
        raise Unavailable("The engine does not answer.")

    async def find_no_room(self, job, context):
        if self.rooms:
            return Outcome(jobs.COMPLETED)
        self.full = True
        raise OSError(errno.ENOSPC, "No space left on device")

    async def follow(self, job, context):
        self.children.append(context.start([sys.executable, "-c", "import time; time.sleep(60)"], name="child"))
        await context.cancelled.wait()
        return Outcome(jobs.CANCELLED, "wound up", "CANCELLED")

    async def linger(self, job, context):
        await asyncio.sleep(600)

    async def stand_still(self, job, context):
        context.waits = True
        await context.cancelled.wait()
        return Outcome(jobs.CANCELLED, "wound up", "CANCELLED")

    async def block_briefly(self, job, context):
        await asyncio.sleep(0.3)
        return Outcome(jobs.COMPLETED)

    def settle(self, session, job, outcome):
        if job.spec.get("settle") == "fail":
            raise RuntimeError("settling failed")
        account = session.get(Account, ACCOUNT)
        assert account is not None
        account.display_name = f"{job.id} {outcome.state}"

    async def discard(self, job, context):
        self.discarded.append(job.id)


@pytest.fixture
def handler() -> Work:
    return Work()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)


def enqueue(sessions, name, do, **spec) -> str:
    with sessions.begin() as session:
        jobs.enqueue(session, name, ACCOUNT, "work", {"do": do, **spec})
    return name


async def test_an_outcome_ends_the_job_and_settles_in_the_same_transaction(settings, sessions, handler):
    name = enqueue(sessions, "a", "succeed")
    async with working(settings, sessions, [(handler, 1)]):
        job = await final(sessions, name)
    assert (job.state, job.status, job.progress) == (jobs.COMPLETED, {"code": "OK", "message": "done"}, {"percent": 50})
    assert job.completed is not None
    assert job.lease_owner is None
    with reading(sessions) as session:
        account = session.get(Account, ACCOUNT)
        assert account is not None
        assert account.display_name == f"a {jobs.COMPLETED}"


async def test_a_users_fault_fails_at_once_word_for_word(settings, sessions, handler):
    name = enqueue(sessions, "a", "refuse")
    async with working(settings, sessions, [(handler, 1)]):
        job = await final(sessions, name)
    assert (job.state, job.attempts) == (jobs.FAILED, 1)
    assert job.status == {"code": "INVALID_ARGUMENT", "message": "Line 3 of the dataset is not JSON."}


async def test_our_fault_is_tried_again(settings, sessions, handler):
    name = enqueue(sessions, "a", "flicker")
    async with working(settings, sessions, [(handler, 1)]):
        job = await until(sessions, name, lambda job: job.status != {})
        assert job.status["message"].startswith("The engine does not answer. Attempt 1 failed")
        job = await final(sessions, name)
    assert (job.state, job.attempts) == (jobs.COMPLETED, 2)


async def test_attempts_are_counted_anew_once_a_job_moved_on(settings, sessions, handler):
    name = enqueue(sessions, "a", "move_on")
    with sessions.begin() as session:
        jobs.get(session, name).attempts = MAX_ATTEMPTS + 20  # as after many crashes of workers
    async with working(settings, sessions, [(handler, 1)]):
        job = await until(sessions, name, lambda job: job.status != {})
        assert job.status["message"].endswith("Attempt 1 failed; the next is in 2 s.")
        job = await final(sessions, name)
    assert (job.state, job.attempts) == (jobs.COMPLETED, 2)


async def test_our_fault_fails_in_the_end_without_a_stack_trace(settings, sessions, handler, caplog):
    name = enqueue(sessions, "a", "explode")
    with sessions.begin() as session:
        jobs.get(session, name).attempts = MAX_ATTEMPTS - 1
    async with working(settings, sessions, [(handler, 1)]):
        job = await final(sessions, name)
    assert (job.state, job.attempts, job.status["code"]) == (jobs.FAILED, MAX_ATTEMPTS, "INTERNAL")
    assert job.status["message"].startswith("internal error ")
    assert "secret detail" not in job.status["message"]
    number = job.status["message"].split()[2].rstrip(":")
    assert number in caplog.text
    assert "secret detail" in caplog.text


async def test_a_failing_settle_leaves_the_job_unfinished(settings, sessions, handler):
    name = enqueue(sessions, "a", "succeed", settle="fail")
    async with working(settings, sessions, [(handler, 1)]):
        job = await until(sessions, name, lambda job: job.status.get("code") == "UNAVAILABLE")
    assert job.state not in jobs.FINAL_STATES


async def test_cancel_is_noticed_within_a_second_and_children_end(settings, sessions, handler):
    name = enqueue(sessions, "a", "follow")
    async with working(settings, sessions, [(handler, 1)]):
        await until(sessions, name, lambda job: bool(handler.children))
        with sessions.begin() as session:
            jobs.request_cancel(session, name)
        asked = time.monotonic()
        job = await final(sessions, name)
        assert time.monotonic() - asked < 1.0
    assert (job.state, job.status["message"]) == (jobs.CANCELLED, "wound up")
    assert not handler.children[0].running


async def test_a_handler_that_ignores_cancel_is_stopped(settings, sessions, handler, monkeypatch):
    monkeypatch.setattr(worker, "CANCEL_GRACE_SECONDS", 0.2)
    name = enqueue(sessions, "a", "linger")
    async with working(settings, sessions, [(handler, 1)]):
        await until(sessions, name, lambda job: job.lease_owner is not None)
        with sessions.begin() as session:
            jobs.request_cancel(session, name)
        job = await final(sessions, name)
    assert job.state == jobs.CANCELLED


async def test_delete_stops_the_job_then_removes_it(settings, sessions, handler):
    name = enqueue(sessions, "a", "follow")
    async with working(settings, sessions, [(handler, 1)]):
        await until(sessions, name, lambda job: bool(handler.children))
        with sessions.begin() as session:
            jobs.request_delete(session, name)
        for _ in range(100):
            with reading(sessions) as session:
                if session.get(Job, name) is None:
                    break
            await asyncio.sleep(0.05)
    with reading(sessions) as session:
        assert session.get(Job, name) is None
    assert handler.discarded == ["a"]
    assert not handler.children[0].running


async def test_limits_per_kind_hold(settings, sessions, handler):
    names = [enqueue(sessions, f"j{i}", "block_briefly") for i in range(5)]
    async with working(settings, sessions, [(handler, 2)]):
        for name in names:
            await final(sessions, name)
    assert handler.most == 2
    assert sorted(handler.runs) == names


async def test_a_job_that_stands_still_leaves_its_place_to_another(settings, sessions, handler):
    paused = enqueue(sessions, "paused", "stand_still")
    async with working(settings, sessions, [(handler, 1)]):
        await until(sessions, paused, lambda job: job.lease_owner is not None)
        name = enqueue(sessions, "next", "succeed")
        assert (await final(sessions, name)).state == jobs.COMPLETED
        assert handler.running == 1, "the paused one is held all the while"


async def test_leases_are_renewed_and_an_orderly_stop_gives_the_job_back_at_once(settings, sessions, handler):
    name = enqueue(sessions, "a", "follow")
    async with working(settings, sessions, [(handler, 1)]):
        first = (await until(sessions, name, lambda job: job.lease_owner is not None)).lease_expires or 0
        later = await until(sessions, name, lambda job: (job.lease_expires or 0) > first + 0.4)
        assert (later.lease_expires or 0) > time.time()
    assert not handler.children[0].running
    with reading(sessions) as session:
        job = jobs.get(session, name)
        assert (job.lease_owner, job.state, job.attempts) == (None, jobs.RUNNING, 0)
    with sessions.begin() as session:
        claimed = jobs.claim(session, "next", ["work"], 30)
        assert claimed is not None
        assert claimed.name == name


async def test_a_lost_lease_stops_the_work_and_changes_nothing(settings, sessions, handler):
    name = enqueue(sessions, "a", "follow")
    async with working(settings, sessions, [(handler, 1)]):
        await until(sessions, name, lambda job: bool(handler.children))
        with sessions.begin() as session:
            session.get(Job, name).lease_owner = "somebody else"
        await asyncio.wait_for(handler.children[0].wait(), 5)
    with reading(sessions) as session:
        job = jobs.get(session, name)
        assert (job.lease_owner, job.state) == ("somebody else", jobs.RUNNING)


def test_the_dead_are_told_from_the_living():
    place, pid, started = own_name().split("/")
    assert not is_dead(own_name())
    assert is_dead(f"{place}/{pid}/{int(started) - 1}")
    assert is_dead(f"{place}/4194300/{started}")
    assert not is_dead(f"elsewhere/{pid}/1")
    assert not is_dead("free form")


async def test_a_clock_that_is_set_runs_no_job_twice(settings, sessions, handler, monkeypatch):
    """A day ahead every lease looks expired, and a day back every delay looks endless."""
    name = enqueue(sessions, "a", "follow")
    real, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])
    async with working(settings, sessions, [(handler, 3)]):
        await until(sessions, name, lambda job: bool(handler.children))
        for offset in (86_400.0, 0.0):
            moved[0] = offset
            expires = real() + offset
            row = await until(
                sessions,
                name,
                lambda job, now=expires: abs((job.lease_expires or 0) - now) < settings.lease_seconds * 20,
            )
            assert row.attempts == 1
        with sessions.begin() as session:
            jobs.request_cancel(session, name)
        await final(sessions, name)
    assert handler.runs == ["a"]
    assert not handler.children[0].running


async def test_a_job_put_back_by_a_clock_a_day_ahead_is_taken(settings, sessions, handler):
    name = enqueue(sessions, "a", "succeed")
    with sessions.begin() as session:
        session.get(Job, name).lease_expires = time.time() + 86_400
    async with working(settings, sessions, [(handler, 1)]):
        await final(sessions, name)


async def test_a_full_disk_is_waited_for_and_not_counted(settings, sessions, handler, monkeypatch):
    monkeypatch.setattr(worker, "NO_ROOM_SECONDS", 0.1)
    monkeypatch.setattr(worker, "free_bytes", lambda folder: 0 if handler.full else 2**40)
    name = enqueue(sessions, "a", "find_no_room")
    async with working(settings, sessions, [(handler, 1)]):
        for _ in range(MAX_ATTEMPTS + 1):
            waiting = await until(sessions, name, lambda job: handler.full and job.lease_owner is None)
            assert waiting.state not in jobs.FINAL_STATES
            assert "no space left" in waiting.status["message"]
            handler.full = False
            await until(sessions, name, lambda job: handler.full)
        handler.rooms = True
        handler.full = False
        assert (await final(sessions, name)).state == jobs.COMPLETED
