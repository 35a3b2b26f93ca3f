"""Slow agents: a group with its quorum goes on without its stragglers, which are recorded, and neither trained nor held against the run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tunesmith.orchestrator.deadlines import GroupClocks, GroupDeadline

from tests.orchestrator.world import World, default_score

DEADLINE = {"group_deadline_seconds": 0.05, "group_quorum": 3}


def last_of_each_group(rollout_id: str) -> bool:
    return "-k3-" in rollout_id


def train(world: World) -> list[dict[str, Any]]:
    return [line for line in world.lines("rollouts.jsonl") if line["kind"] == "train"]


def varied(rollout_id: str) -> dict[str, Any]:
    """Scores that differ inside every group, whoever is missing."""
    k = int(rollout_id.split("-k")[1].split("-")[0])
    return {**default_score(rollout_id), "score": k / 4}


async def test_a_group_goes_on_without_its_stragglers_and_drops_what_they_say_later(tmp_path):
    async with World(tmp_path, score=varied) as world:
        world.slow = last_of_each_group
        world.configure(**DEADLINE)
        code, status, said = await world.run()
        assert (code, status["state"]) == (0, "COMPLETED"), said
        records, batches = train(world), world.batches()
        chunks = [event for event in world.lines("events.jsonl") if event["kind"] == "chunk"]
    late = [record for record in records if record.get("straggler")]
    assert {record["rollout_id"] for record in late} == {record["rollout_id"] for record in records if record["k"] == 3}
    assert sorted(world.cancelled) == sorted(record["rollout_id"] for record in late), "they were stopped at the host"
    assert len(records) == len({record["rollout_id"] for record in records}) == 6 * 4, "late answers were dropped"
    assert all(record["score"] is None and record["reason"].startswith("straggler: ") for record in late)
    assert [(event["stragglers"], event["invalid"], event["rollouts"]) for event in chunks] == [(2, 0, 8)] * 3
    assert [len(batch.header.rollouts) for batch in batches] == [6] * 3
    trained = {rollout.rollout_id for batch in batches for rollout in batch.header.rollouts}
    assert trained.isdisjoint(record["rollout_id"] for record in late)


async def test_stragglers_are_not_counted_among_the_invalid(tmp_path):
    def half_invalid(rollout_id: str) -> dict[str, Any]:
        k = int(rollout_id.split("-k")[1].split("-")[0])
        return {**varied(rollout_id), **({"is_score_valid": False, "score": None} if k in (1, 3, 5) else {})}

    async with World(tmp_path, score=half_invalid) as world:
        world.slow = lambda rollout_id: "-k6-" in rollout_id or "-k7-" in rollout_id
        world.configure(n=8, group_deadline_seconds=0.05, group_quorum=3)
        code, status, said = await world.run()  # 3 of 6 are invalid: half, not more; with the stragglers 5 of 8
        assert (code, status["state"]) == (0, "COMPLETED"), said


async def test_without_its_quorum_a_group_waits(tmp_path):
    async with World(tmp_path, score=varied) as world:
        world.slow = lambda rollout_id: "-k0-" not in rollout_id
        world.configure(rows=1, chunk_size=1, group_deadline_seconds=0.01, group_quorum=2)
        process = await world.start()
        recorded = tmp_path / "rollouts.jsonl"
        while not (recorded.exists() and recorded.stat().st_size):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert world.cancelled == [], "one score is no quorum of two, whatever the clock says"
        await world.let_end("job-c0-r0-k1-a0")
        await asyncio.wait_for(process.wait(), 300)
        assert sorted(record["k"] for record in train(world) if record.get("straggler")) == [2, 3]


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_it_takes_up_what_was_recorded(tmp_path, seed):
    async with World(tmp_path, score=varied, delay=0.005) as world:
        world.slow = last_of_each_group
        world.configure(**DEADLINE)
        await world.run_with_kills(seed, kills=4)
        assert world.status()["state"] == "COMPLETED"
        records, batches = train(world), world.batches()
    by_place: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for record in records:
        by_place.setdefault((record["chunk"], record["row_index"], record["k"]), []).append(record)
    assert len(by_place) == 6 * 4
    assert all(len(found) == 1 for found in by_place.values()), by_place
    assert [batch.header.step for batch in batches] == [0, 1, 2]
    trained = [rollout.rollout_id for batch in batches for rollout in batch.header.rollouts]
    assert sorted(trained) == sorted(record["rollout_id"] for record in records if record["is_score_valid"])


def test_the_clock_starts_with_half_of_a_group_and_waits_for_its_quorum():
    now = [0.0]
    clocks = GroupClocks(GroupDeadline(10, quorum=3), n=5, now=lambda: now[0])
    clocks.ended(7, valid=True)
    clocks.ended(7, valid=True)
    assert clocks.seconds_left() is None, "two of five are not half"
    now[0] = 100
    clocks.ended(7, valid=False)
    assert clocks.seconds_left() is None, "no quorum yet"
    now[0] = 104
    clocks.ended(7, valid=True)
    assert clocks.seconds_left() == 6
    assert clocks.due() == []
    now[0] = 110
    assert (clocks.seconds_left(), clocks.due(), clocks.due()) == (0, [7], []), "each group is named once"
    clocks = GroupClocks(None, n=2, now=lambda: now[0])
    clocks.ended(0, valid=True)
    assert (clocks.seconds_left(), clocks.due()) == (None, [])
