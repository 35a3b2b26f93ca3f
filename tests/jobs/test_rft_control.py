"""What a person asks of a running job on its way to control.json: another evaluator version answers before it takes over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tunesmith import launch
from tunesmith.db import jobs
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import InvalidArgument
from tunesmith.evaluators.hosts import EvaluatorHost
from tunesmith.evaluators.protection import chosen
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.rft_control import Steering
from tunesmith.jobs.rft_processes import RunProcesses
from tunesmith.runs.control import Asked, Control
from tunesmith.settings import Settings

from tests.jobs.conftest import ACCOUNT
from tests.jobs.test_rft import NAME, SPEC


class World:
    """One job, hosts that are real processes without an evaluator in them, and an orchestrator that the test plays."""

    def __init__(self, settings: Settings, sessions: Any) -> None:
        self.sessions = sessions
        with sessions.begin() as session:
            jobs.enqueue(session, NAME, ACCOUNT, "rft", SPEC.model_dump(mode="json"))
            claimed = jobs.claim(session, "worker", ["rft"], 30.0)
            assert claimed is not None
            job = ClaimedJob.of(claimed)
            for version in (1, 2, 3):
                session.add(
                    EvaluatorVersion(
                        name=f"{SPEC.evaluator}/versions/{version}",
                        evaluator=SPEC.evaluator,
                        version=version,
                        archive_key="x",
                        entry_point="e.py::f",
                        state="ACTIVE" if version < 3 else "BUILDING",
                        build_dir=f"/built/{version}",
                    )
                )
        self.context = JobContext(settings, sessions, job, "worker")
        self.run_dir = settings.path("runs", job.id, "x").parent
        self.processes = RunProcesses(self.run_dir, SPEC.evaluator_version, self.start_host, self.context.start)
        self.steering = Steering(job, self.context, SPEC, self.run_dir, self.processes)
        self.refuses: str | None = None
        self.started: list[int] = []

    async def start_host(self, version: int) -> EvaluatorHost:
        self.started.append(version)
        if self.refuses:
            raise InvalidArgument(self.refuses)
        process = launch.start(["sleep", "60"], name=f"host {version}")
        return EvaluatorHost(process, self.steering.socket_of(version), {}, chosen("off"))

    def ask(self, **wishes: Any) -> None:
        with self.sessions.begin() as session:
            job = session.get_one(Job, NAME)
            asked = Asked.model_validate(job.control)
            job.control = asked.model_copy(update={**wishes, "revision": asked.revision + 1}).model_dump()

    def built(self, version: int) -> None:
        with self.sessions.begin() as session:
            session.get_one(EvaluatorVersion, f"{SPEC.evaluator}/versions/{version}").state = "ACTIVE"

    def in_force(self, version: int) -> None:
        """The orchestrator says so."""
        status = {"state": "RUNNING", "control": {"evaluator_version": version}}
        (self.run_dir / "status.json").write_text(json.dumps(status))

    @property
    def control(self) -> Control:
        return Control.read(self.run_dir)

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(500):
            await self.steering.steer()
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(self.control)


@pytest.fixture
async def world(settings: Settings, sessions: Any):
    made = World(settings, sessions)
    made.processes.hosts[1] = await made.start_host(1)
    made.started.clear()
    yield made
    await made.steering.stop()
    await made.processes.stop_hosts_but(set())


async def test_a_job_that_nobody_controls_has_no_control_file(world: World) -> None:
    await world.steering.steer()
    assert not (world.run_dir / "control.json").exists()


async def test_wishes_reach_the_file_once(world: World) -> None:
    world.ask(paused=True, learning_rate=2e-3)
    await world.steering.steer()
    assert (world.control.paused, world.control.learning_rate, world.control.evaluator_version) == (True, 2e-3, "1")
    written = (world.run_dir / "control.json").stat().st_mtime_ns
    await world.steering.steer()
    assert (world.run_dir / "control.json").stat().st_mtime_ns == written


async def test_the_new_host_answers_before_it_is_named_and_the_old_one_stays_until_nothing_uses_it(
    world: World,
) -> None:
    old = world.processes.hosts[1].process
    world.ask(evaluator_version=2)
    await world.steering.steer()
    assert world.control.evaluator_version == "1", "not named before it answers"
    await world.until(lambda: world.control.evaluator_version == "2")
    assert world.control.hosts == {"2": world.steering.socket_of(2)}
    assert world.steering.socket_of(2).parent != world.steering.socket_of(1).parent, (
        "each writes in a folder of its own"
    )
    assert old.running, "the chunk in progress is still scored by it"
    world.in_force(2)
    await world.until(lambda: not old.running)
    assert set(world.processes.hosts) == {2}
    world.ask(evaluator_version=None)
    await world.until(lambda: world.control.evaluator_version == "1")
    assert world.started == [2, 1]


async def test_a_version_that_does_not_start_leaves_the_old_one_in_force_and_is_tried_when_asked_again(
    world: World,
) -> None:
    world.refuses = "SyntaxError: line 3"
    world.ask(evaluator_version=2)
    await world.until(lambda: "SyntaxError: line 3" in world.control.message)
    assert "version 1 stays in force" in world.control.message
    assert world.control.evaluator_version == "1"
    for _ in range(5):
        await world.steering.steer()
    assert world.started == [2]
    world.refuses = None
    world.ask(evaluator_version=2)
    await world.until(lambda: world.control.evaluator_version == "2")
    assert world.control.message == ""


async def test_every_new_version_that_is_built_is_taken(world: World) -> None:
    world.ask(auto_evaluator_version=True)
    await world.until(lambda: world.control.evaluator_version == "2")
    world.in_force(2)
    world.built(3)
    await world.until(lambda: world.control.evaluator_version == "3")
    assert world.started == [2, 3]


async def test_a_worker_that_comes_back_brings_up_what_is_in_force_and_names_no_dead_host(
    world: World, settings: Settings
) -> None:
    world.in_force(2)
    (world.run_dir / "control.json").write_text(
        Control(revision=1, evaluator_version="3", hosts={"3": Path("/dead")}).model_dump_json()
    )
    world.ask(evaluator_version=3)
    world.built(3)
    await world.processes.stop_hosts_but(set())
    await world.steering.steer()
    assert world.control.evaluator_version == "2"
    assert world.processes.version_in_force() == 2
    await world.until(lambda: world.control.evaluator_version == "3")
    assert world.control.hosts.keys() == {"2", "3"}


async def test_a_version_is_looked_up_where_it_was_built(world: World) -> None:
    assert await world.steering.build_of(1) == (Path("/built"), "")
    assert await world.steering.build_of(2) == (Path("/built/2"), "e.py::f")
    with pytest.raises(Exception, match="is BUILDING"):
        await world.steering.build_of(3)
    with pytest.raises(Exception, match="not there any more"):
        await world.steering.build_of(9)
