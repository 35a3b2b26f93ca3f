"""Control of a running run: what was asked for counts from the next chunk on, stands in events and batches, and outlives kill -9."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tunesmith.runs.config import RunConfig
from tunesmith.runs.control import Asked, Control, InForce
from tunesmith.runs.files import write_atomic

from tests.orchestrator.world import World

pytestmark = pytest.mark.asyncio


def ask(world: World, revision: int, **fields: Any) -> None:
    write_atomic(world.run_dir / "control.json", Control(revision=revision, **fields).model_dump_json())


def controls(world: World) -> list[dict[str, Any]]:
    return [event for event in world.lines("events.jsonl") if event["kind"] == "control"]


def paused(world: World) -> bool:
    return (world.run_dir / "status.json").exists() and world.status()["message"].startswith("paused")


async def until(what: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        try:
            if what():
                return
        except (FileNotFoundError, json.JSONDecodeError):
            pass
        assert asyncio.get_running_loop().time() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def test_a_run_that_nobody_controls_records_no_control(tmp_path: Path) -> None:
    async with World(tmp_path / "r") as world:
        world.configure()
        code, _, said = await world.run()
    assert code == 0, said
    assert controls(world) == []
    assert {batch.header.learning_rate for batch in world.batches()} == {1e-4}


async def test_a_paused_run_takes_no_step_until_it_may_and_keeps_its_pause_over_kill_9(tmp_path: Path) -> None:
    async with World(tmp_path / "r") as world:
        world.configure()
        ask(world, 1, paused=True)
        process = await world.start()
        await until(lambda: world.status()["control"]["paused"])
        await until(lambda: world.status()["message"] == "paused before step 0")
        process.kill()
        await process.communicate()
        process = await world.start()
        await until(lambda: world.status()["message"] == "paused before step 0")
        await asyncio.sleep(0.3)
        assert world.asked == []
        assert world.batches() == []
        ask(world, 2)
        _, said = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, said
    assert [(event["revision"], event["paused"], event["step"]) for event in controls(world)] == [
        (1, True, 0),
        (2, False, 0),
    ]
    assert len(world.batches()) == 3


async def test_so_many_steps_are_taken_then_it_pauses_and_another_wish_does_not_start_the_count_anew(
    tmp_path: Path,
) -> None:
    async with World(tmp_path / "r") as world:
        world.configure(rows=12)
        ask(world, 1, steps=2, steps_revision=1)
        process = await world.start()
        await until(lambda: world.status()["message"] == "paused before step 2")
        ask(world, 2, steps=2, steps_revision=1, learning_rate=5e-4)
        await until(lambda: world.status()["control"]["revision"] == 2)
        assert world.status()["control"]["paused"]
        ask(world, 3, steps=1, steps_revision=3, learning_rate=5e-4)
        await until(lambda: world.status()["message"] == "paused before step 3")
        process.terminate()
        await process.communicate()
    assert len(world.batches()) == 3
    assert [batch.header.learning_rate for batch in world.batches()] == [1e-4, 1e-4, 5e-4]


async def test_learning_rate_and_evaluator_of_a_step_stand_in_its_batch_and_its_event(tmp_path: Path) -> None:
    async with World(tmp_path / "r") as world, World(tmp_path / "other") as second:
        world.configure(rows=12, evaluator_version="1")
        ask(world, 1, steps=2, steps_revision=1)
        process = await world.start()
        await until(lambda: world.status()["message"] == "paused before step 2")
        ask(world, 2, learning_rate=3e-4, evaluator_version="2", hosts={"2": second.socket})
        _, said = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, said
    headers = [batch.header for batch in world.batches()]
    assert [header.learning_rate for header in headers] == [1e-4] * 2 + [3e-4] * 4
    assert [header.evaluator_version for header in headers] == ["1"] * 2 + ["2"] * 4
    chunks = [event for event in world.lines("events.jsonl") if event["kind"] == "chunk"]
    assert [event["evaluator_version"] for event in chunks] == [1, 1, 2, 2, 2, 2]
    assert [event["learning_rate"] for event in chunks] == [1e-4] * 2 + [3e-4] * 4
    assert len(second.asked) == 4 * 2 * 4
    assert {asked.split("-")[1] for asked in second.asked} == {"c2", "c3", "c4", "c5"}


async def test_a_chunk_that_was_begun_ends_as_it_began(tmp_path: Path) -> None:
    """Killed in the middle of a chunk, and controlled before the next start: its rollouts are not scored by two evaluators."""
    async with World(tmp_path / "r", delay=0.02) as world, World(tmp_path / "other") as second:
        world.configure(rows=6, evaluator_version="1")
        process = await world.start()
        await until(lambda: len(world.lines("rollouts.jsonl")) >= 3)
        process.kill()
        await process.communicate()
        assert world.batches() == []
        ask(world, 1, learning_rate=7e-4, evaluator_version="2", hosts={"2": second.socket})
        code, _, said = await world.run()
    assert code == 0, said
    headers = [batch.header for batch in world.batches()]
    assert [header.evaluator_version for header in headers] == ["1", "2", "2"]
    assert [header.learning_rate for header in headers] == [1e-4, 7e-4, 7e-4]
    assert controls(world)[0]["step"] == 1


async def test_controlled_runs_that_are_killed_seal_what_undisturbed_ones_seal(tmp_path: Path) -> None:
    async with World(tmp_path / "r", delay=0.002) as world:
        world.configure(rows=12)
        ask(world, 1, steps=3, steps_revision=1, learning_rate=2e-4)
        for _ in range(3):
            process = await world.start()
            target = len(world.asked) + 9
            while len(world.asked) < target and not paused(world):
                await asyncio.sleep(0.005)
            process.kill()
            await process.communicate()
        process = await world.start()
        await until(lambda: world.status()["message"] == "paused before step 3")
        ask(world, 2, learning_rate=4e-4)
        await asyncio.wait_for(process.communicate(), 300)
    async with World(tmp_path / "undisturbed") as undisturbed:
        undisturbed.configure(rows=12)
        ask(undisturbed, 1, steps=3, steps_revision=1, learning_rate=2e-4)
        process = await undisturbed.start()
        await until(lambda: undisturbed.status()["message"] == "paused before step 3")
        ask(undisturbed, 2, learning_rate=4e-4)
        await asyncio.wait_for(process.communicate(), 300)
    told = [
        [(b.header.learning_rate, [(r.group, r.score) for r in b.header.rollouts], b.samples) for b in each.batches()]
        for each in (world, undisturbed)
    ]
    assert told[0] == told[1]
    assert [batch.header.learning_rate for batch in world.batches()] == [2e-4] * 3 + [4e-4] * 3


async def test_an_evaluator_without_a_host_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    async with World(tmp_path / "r") as world:
        world.configure(evaluator_version="1")
        ask(world, 1, evaluator_version="2")
        code, status, _ = await world.run()
    assert code == 1
    assert status["state"] == "FAILED"
    assert "no evaluator host of version 2" in status["message"]


async def test_the_best_version_is_the_best_in_the_eyes_of_the_evaluator_in_force(tmp_path: Path) -> None:
    """The first evaluator gives every version 1, the second 0: the versions that only the first one saw do not win."""
    ones = {"score": 1.0, "is_score_valid": True, "reason": "", "code": 100}

    def coins(rollout: str) -> dict[str, Any]:
        return {**ones, "score": float(sum(map(ord, rollout.split("-a")[0])) % 2)} if "-c" in rollout else ones

    def halves(rollout: str) -> dict[str, Any]:
        return {**coins(rollout), **({} if "-c" in rollout else {"score": 0.5})}

    async with World(tmp_path / "r", score=coins) as world, World(tmp_path / "other", score=halves) as second:
        world.configure(rows=8, evaluator_version="1")
        config = json.loads((world.run_dir / "run.json").read_text())
        config["evaluation"] = {"dataset": config["dataset"], "every_steps": 1, "max_rows": 2}
        (world.run_dir / "run.json").write_text(json.dumps(config))
        ask(world, 1, steps=2, steps_revision=1)
        process = await world.start()
        await until(lambda: world.status()["message"] == "paused before step 2")
        assert world.status()["best_score"] == 1.0
        ask(world, 2, evaluator_version="2", hosts={"2": second.socket})
        await asyncio.wait_for(process.communicate(), 300)
        status = world.status()
    assert (status["best_version"], status["best_score"]) == (4, 0.5)


@pytest.mark.parametrize("field", ["paused", "learning_rate", "evaluator_version"])
async def test_taking_the_same_control_again_changes_nothing(field: str) -> None:
    config = RunConfig.model_validate(
        {"job": "j", "base_model": {"name": "b", "path": "/b"}, "dataset": "/d", "gateway_url": "", "host_socket": "/s"}
    )
    control = Control.model_validate({"revision": 1, field: {"paused": True, "learning_rate": 0.5}.get(field, "3")})
    before = InForce.of(config, [])
    taken = before.take(control, config, chunk=2, step=2)
    assert taken is not before
    assert taken.take(control, config, chunk=9, step=9) is taken
    assert InForce.of(config, [{"kind": "control", **taken.event()}]) == taken


async def test_what_is_asked_for_survives_unknown_fields_of_a_newer_platform() -> None:
    assert Asked.model_validate({"revision": 3, "paused": True, "later": 1}).paused
