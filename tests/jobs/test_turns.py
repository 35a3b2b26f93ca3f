"""Whose turn it is, and whether there is room: fair shares between users, memory that is there or never will be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tunesmith.catalog import resolve
from tunesmith.db import jobs
from tunesmith.db.accounts import ensure_account
from tunesmith.db.queue import places
from tunesmith.db.session import reading
from tunesmith.db.turns import Waiting, in_turn
from tunesmith.jobs import Handler, Outcome, worker
from tunesmith.jobs.admission import rft_need, tuning_need
from tunesmith.jobs.memory import MIB, Held, Machine, Memory, Need

from tests.jobs.conftest import ACCOUNT, final, until, working

BASE = "accounts/tunesmith/models/tiny-math-v1"
ADA, BOB = (ACCOUNT, "ada"), (ACCOUNT, "bob")


def waiting(name: str, share: tuple[str, str], created: float, *, first: bool = False) -> Waiting:
    return Waiting(name, share, created, first)


def test_places_are_shared_not_first_come_first_served():
    many = [waiting(f"a{number}", ADA, number) for number in range(4)]
    assert in_turn([*many, waiting("b0", BOB, 9)], {}, {}) == ["a0", "b0", "a1", "a2", "a3"]
    assert in_turn([*many, waiting("b0", BOB, 9)], {ADA: 1}, {ADA: 5.0}) == ["b0", "a0", "a1", "a2", "a3"]
    equal = [*many[:2], waiting("b0", BOB, 9), waiting("b1", BOB, 10)]
    assert in_turn(equal, {ADA: 1, BOB: 1}, {ADA: 7.0, BOB: 6.0}) == ["b0", "a0", "b1", "a1"], "least recently served"
    begun = waiting("a9", ADA, 20, first=True)
    assert in_turn([*equal, begun], {ADA: 3}, {})[0] == "a9", "what has begun goes on first"


class Heavy(Handler):
    """A job that needs what its spec says, until it is told to end."""

    kind = "heavy"

    def __init__(self) -> None:
        self.ends: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []

    def need(self, spec, settings):
        return Need({"learner": spec["mib"] * MIB}) if spec["mib"] else None

    async def run(self, job, context):
        self.begun.append(job.id)
        await self.ends.setdefault(job.id, asyncio.Event()).wait()
        return Outcome(jobs.COMPLETED)

    def end(self, name: str) -> None:
        self.ends.setdefault(name, asyncio.Event()).set()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)


@pytest.fixture
def settings(settings):
    """Leases that no loaded machine lets run out: a job begins once."""
    return settings.model_copy(update={"lease_seconds": 60})


def enqueue(sessions, name: str, mib: int, user: str = "", account: str = ACCOUNT) -> str:
    with sessions.begin() as session:
        ensure_account(session, account)
        jobs.enqueue(session, name, account, "heavy", {"mib": mib}, created_by=user)
    return name


async def test_users_take_turns_in_a_worker(settings, sessions):
    for number in range(3):
        enqueue(sessions, f"ada{number}", 0, "ada")
    enqueue(sessions, "bob0", 0, "bob")
    with reading(sessions) as session:
        assert places(session, "heavy") == {"ada0": 1, "bob0": 2, "ada1": 3, "ada2": 4}
    handler = Heavy()
    for name in ("ada0", "ada1", "ada2", "bob0"):
        handler.end(name)
    async with working(settings, sessions, [(handler, 1)]):
        await final(sessions, "ada2")
    assert handler.begun == ["ada0", "bob0", "ada1", "ada2"]


async def test_a_job_waits_for_memory_and_says_so_and_one_that_never_fits_fails(settings, sessions):
    settings = settings.model_copy(update={"job_memory_bytes": 100 * MIB, "memory_reserve_bytes": 0})
    for name, mib in (("first", 60), ("second", 60), ("huge", 200), ("small", 10)):
        enqueue(sessions, name, mib)
    handler = Heavy()
    async with working(settings, sessions, [(handler, 8)]):
        job = await until(sessions, "second", lambda job: bool(job.waiting_for))
        assert job.state == jobs.PENDING
        assert "needs about 60 MiB (learner 60 MiB)" in job.waiting_for
        assert "40 MiB are to be had until one of these jobs ends: first" in job.waiting_for
        assert job.status["message"] == job.waiting_for
        assert handler.begun == ["first"], "nobody overtakes who waits for memory"
        handler.end("first")
        job = await until(sessions, "second", lambda job: job.state == jobs.RUNNING)
        assert (job.waiting_for, job.status) == ("", {})
        failed = await final(sessions, "huge")
        assert (failed.state, failed.status["code"]) == (jobs.FAILED, "RESOURCE_EXHAUSTED")
        assert "needs about 200 MiB" in failed.status["message"]
        assert "job_memory_bytes allows 100 MiB" in failed.status["message"]
        await until(sessions, "small", lambda job: job.state == jobs.RUNNING)
        for name in ("second", "small"):
            handler.end(name)
        await final(sessions, "small")
    assert handler.begun == ["first", "second", "small"]


def test_the_limit_of_a_container_counts(tmp_path: Path):
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n")
    assert Machine.look(proc, cgroups) == Machine(8 * 2**30, 6 * 2**30)
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    (cgroups / "a" / "b").mkdir(parents=True)
    (cgroups / "a" / "memory.max").write_text(f"{2**31}\n")
    (cgroups / "a" / "memory.current").write_text(f"{2**30 + 2**29}\n")
    (cgroups / "a" / "memory.stat").write_text(f"anon 1\ninactive_file {2**29}\n")
    (cgroups / "a" / "b" / "memory.max").write_text("max\n")
    (cgroups / "a" / "b" / "memory.current").write_text("5\n")
    assert Machine.look(proc, cgroups) == Machine(2**31, 2**30), (
        "version 2: the limit above ours, without the page cache"
    )
    (proc / "self" / "cgroup").write_text("4:cpu,memory:/job\n")
    (cgroups / "memory" / "job").mkdir(parents=True)
    (cgroups / "memory" / "job" / "memory.limit_in_bytes").write_text(f"{2**30}\n")
    (cgroups / "memory" / "job" / "memory.usage_in_bytes").write_text(f"{2**29}\n")
    assert Machine.look(proc, cgroups) == Machine(2**30, 2**29), "version 1"


def test_what_running_jobs_have_yet_to_take_is_spoken_for():
    memory = Memory(Machine(total=1000, available=600), reserve=100)
    need = Need({"learner": 300})
    assert memory.not_now(need, []) == ""
    assert memory.not_now(need, [Held("a", need=400, resident=150)]) == "Waits for memory: it needs about 0 MiB " + (
        "(learner 0 MiB), and 0 MiB are to be had until one of these jobs ends: a."
    )
    assert memory.not_now(need, [Held("a", need=400, resident=300)]) == ""
    assert "other programs" in memory.not_now(Need({"learner": 700}), [])
    assert memory.never(Need({"learner": 901}))
    assert memory.never(Need({"learner": 900})) == ""


def test_the_estimate_follows_the_model_and_the_options(settings):
    spec = {"base_model": BASE, "lora_rank": 8, "max_tokens": 64, "max_context_length": None}
    need = rft_need(spec, settings)
    assert need is not None
    folder = resolve(BASE, models_dir=settings.path("models")).path
    weights = (folder / "model.safetensors").stat().st_size
    assert need.parts["learner"] > weights
    assert 800 * MIB < need.total < 2048 * MIB, "the tour's processes take about 1.5 GiB together"
    longer = rft_need({**spec, "max_context_length": 4096}, settings)
    assert longer is not None
    assert longer.parts["activations"] > need.parts["activations"]
    full = tuning_need({**spec, "lora_rank": 0}, settings)
    lora = tuning_need({**spec, "lora_rank": 8}, settings)
    assert full is not None
    assert lora is not None
    assert full.parts["optimizer"] > lora.parts["adapter and optimizer"]
    assert "engine" not in full.parts
    settings.path("supervisor.json").write_text(json.dumps({"processes": [{"name": f"engine {BASE}", "pid": 1}]}))
    shared = rft_need(spec, settings)
    assert shared is not None
    assert "engine" not in shared.parts, "jobs share the engine that runs"
    assert rft_need({**spec, "base_model": "nobody/has-this"}, settings) is None
