"""The orchestrator as a real process against its seams: a whole run, restarts, failures, early stop."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest
from tunesmith.evaluators.client import HostClient

from tests.orchestrator.world import World, default_score


async def test_a_run_seals_one_batch_a_chunk_and_publishes_each_version(tmp_path):
    async with World(tmp_path) as world:
        world.configure(epochs=2)
        code, status, said = await world.run()
        assert code == 0, said
        assert status["state"] == "COMPLETED"
        batches = world.batches()
        assert [batch.header.step for batch in batches] == list(range(len(batches)))
        assert status["optimizer_steps"] == status["step"] == len(batches) == 6
        assert status["best_version"] == 6, "without held-out rows the last version is promoted"
        for step, batch in enumerate(batches):
            assert {rollout.version for rollout in batch.header.rollouts} == {step}, "staleness 0"
            groups = Counter(rollout.group for rollout in batch.header.rollouts)
            for group in groups:
                assert len({r.score for r in batch.header.rollouts if r.group == group}) > 1
        assert len(world.asked) == len(set(world.asked)) == 2 * 6 * 4
        assert sorted(world.retired) == sorted(f"accounts/local/models/job-v{k}" for k in range(7))


async def test_held_out_rows_select_the_best_version(tmp_path):
    def score(rollout_id: str):
        if not rollout_id.startswith("job-e"):
            return default_score(rollout_id)
        version = int(rollout_id.split("-")[1][1:])
        return {"score": 1.0 if version == 2 else 0.0, "is_score_valid": True, "reason": "", "code": 100}

    async with World(tmp_path, score=score) as world:
        world.configure()
        world.configure(rows=8, evaluation={"dataset": str(tmp_path / "rows.jsonl"), "every_steps": 2, "max_rows": 5})
        code, status, said = await world.run()
        assert code == 0, said
        assert (status["best_version"], status["best_score"]) == (2, 1.0)
        evaluations = [event for event in world.lines("events.jsonl") if event["kind"] == "evaluation"]
        assert [event["version"] for event in evaluations] == [0, 2, 4]
        assert {event["n"] for event in evaluations} == {5}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_at_random_instants_it_loses_and_doubles_nothing(tmp_path, seed):
    async with World(tmp_path / "plain") as world:
        world.configure(epochs=2)
        await world.run()
        expected = world.batches()
    async with World(tmp_path / "killed", delay=0.01) as world:
        world.configure(epochs=2)
        landed = await world.run_with_kills(seed, kills=6)
        assert landed, "no kill landed: the run is too short for this test"
        assert world.status()["state"] == "COMPLETED"
        without_attempts = [
            [r.rollout_id.rsplit("-a", 1)[0] for r in batch.header.rollouts] for batch in world.batches()
        ]
        assert without_attempts == [
            [r.rollout_id.rsplit("-a", 1)[0] for r in batch.header.rollouts] for batch in expected
        ]
        assert [batch.samples for batch in world.batches()] == [batch.samples for batch in expected]
        recorded = [line["rollout_id"] for line in world.lines("rollouts.jsonl")]
        assert len(recorded) == len(set(recorded)) == 2 * 6 * 4, "committed rollouts are reused, not rolled again"
        assert len(world.asked) == len(set(world.asked)), "agents may still work for what a killed process asked for"
        assert len(world.asked) > len(recorded), "no kill cut a rollout"


async def test_a_constant_score_stops_after_the_first_epoch(tmp_path):
    async with World(
        tmp_path, score=lambda _: {"score": 1.0, "is_score_valid": True, "reason": "", "code": 100}
    ) as world:
        world.configure(epochs=3)
        code, status, said = await world.run()
        assert code == 0, said
        assert (status["state"], status["step"], status["best_version"]) == ("EARLY_STOPPED", 0, None)
        assert world.batches() == []
        assert {event["epoch"] for event in world.lines("events.jsonl") if event["kind"] == "chunk"} == {0}


async def test_more_than_half_invalid_fails_with_the_commonest_reason(tmp_path):
    async with World(
        tmp_path, score=lambda _: {"score": None, "is_score_valid": False, "reason": "KeyError: answer", "code": 100}
    ) as world:
        world.configure()
        code, status, said = await world.run()
        assert code == 1
        assert status["state"] == "FAILED"
        assert "8 of 8 rollouts" in status["message"]
        assert "KeyError: answer (8x)" in status["message"]
        assert "KeyError" in said


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan"), "1"])
async def test_a_score_outside_its_range_is_invalid_and_never_zero(tmp_path, score):
    def sometimes(rollout_id: str):
        verdict = default_score(rollout_id)
        return {**verdict, "score": score} if "-k0-" in rollout_id else verdict

    async with World(tmp_path, score=sometimes) as world:
        world.configure()
        code, _, said = await world.run()
        assert code == 0, said
        bad = [line for line in world.lines("rollouts.jsonl") if line["k"] == 0]
        assert {(line["score"], line["is_score_valid"]) for line in bad} == {(None, False)}
        assert all("-k0-" not in r.rollout_id for batch in world.batches() for r in batch.header.rollouts)


async def test_a_score_for_another_rollout_is_invalid_and_a_new_try_of_this_one_is_not(tmp_path):
    def renamed(rollout_id: str):
        other = {"-k0-": "job-c0-r0-k1-a0", "-k1-": f"{rollout_id}-t2"}
        name = next((name for part, name in other.items() if part in rollout_id), rollout_id)
        return {**default_score(rollout_id), "rollout_id": name}

    async with World(tmp_path, score=renamed) as world:
        world.configure()
        code, _, said = await world.run()
        assert code == 0, said
        lines = world.lines("rollouts.jsonl")
        assert {line["k"] for line in lines if not line["is_score_valid"]} == {0}
        assert all("instead of job-c" in line["reason"] for line in lines if line["k"] == 0)
        assert {line["rollout_id"].rsplit("-", 1)[1] for line in lines if line["k"] == 1} == {"t2"}


async def test_rollouts_that_the_platform_made_fail_are_rolled_again(tmp_path):
    failed: set[str] = set()

    def flaky(rollout_id: str):
        if rollout_id.endswith("-a0") and "-k1-" in rollout_id:
            failed.add(rollout_id)
            return {"score": None, "is_score_valid": False, "reason": "gateway restarting", "code": 14}
        return default_score(rollout_id)

    async with World(tmp_path, score=flaky) as world:
        world.configure()
        code, _, said = await world.run()
        assert code == 0, said
        assert failed
        assert all(rollout.replace("-a0", "-a1") in world.asked for rollout in failed)
        assert all(event["invalid"] == 0 for event in world.lines("events.jsonl") if event["kind"] == "chunk")


@pytest.mark.parametrize(
    ("uptime", "seconds", "code", "rolled_again"),
    [
        (0.5, 30.0, 13, True),  # the gateway came up while it ran
        (0.5, None, 13, True),  # nobody says how long it ran: at most since it was asked for
        (60.0, 30.0, 13, False),  # the gateway was there before it
        (0.0, 30.0, 102, False),  # it did not fail, its score is invalid
    ],
)
async def test_an_agents_failure_that_spans_a_restart_of_the_gateway_is_the_platforms(
    tmp_path, uptime: float, seconds: float | None, code: int, rolled_again: bool
):
    """Also where the agent reports the cut connection as an internal error of its own."""

    def flaky(rollout_id: str):
        if rollout_id.endswith("-a0") and "-k1-" in rollout_id:
            return {"score": None, "is_score_valid": False, "reason": "it broke", "code": code, "seconds": seconds}
        return default_score(rollout_id)

    async with World(tmp_path, score=flaky, delay=0.01) as world:
        world.uptime = uptime
        world.configure()
        exit_code, _, said = await world.run()
        assert exit_code == 0, said
        failed = [line for line in world.lines("rollouts.jsonl") if line["reason"] == "it broke"]
        assert len(failed) == 6
        assert {line["platform_failure"] for line in failed} == {rolled_again}
        again = [rollout for rollout in world.asked if rollout.endswith("-a1")]
        assert len(again) == (6 if rolled_again else 0)


async def test_a_gateway_that_is_away_for_long_costs_each_rollout_one_try(tmp_path):
    """Rollouts fail at once while it is away; they are not rolled again, and given up, before it is back."""

    def fails_meanwhile(rollout_id: str):
        if world.away:
            return {"score": None, "is_score_valid": False, "reason": "connection refused", "code": 14}
        return default_score(rollout_id)

    async with World(tmp_path, score=fails_meanwhile) as world:
        world.away = 4
        world.configure(rows=2)
        code, _, said = await world.run()
        assert code == 0, said
        assert sorted({int(rollout.rsplit("-a", 1)[1]) for rollout in world.asked}) == [0, 1]
        assert all(event["invalid"] == 0 for event in world.lines("events.jsonl") if event["kind"] == "chunk")


async def test_a_host_that_was_away_costs_no_rollout_its_tries(tmp_path):
    """The wait for a host takes many attempt numbers; a failure after it is tried again all the same."""
    seen: set[str] = set()

    def once_flaky(rollout_id: str):
        rollout = rollout_id.rsplit("-a", 1)[0]
        if "-k1" in rollout and rollout not in seen:
            seen.add(rollout)
            return {"score": None, "is_score_valid": False, "reason": "gateway restarting", "code": 14}
        return default_score(rollout_id)

    async with World(tmp_path, score=once_flaky) as world:
        world.configure(rows=2)
        await world.host_away(2.5)
        code, _, said = await world.run()
        assert code == 0, said
        assert max(int(rollout.rsplit("-a", 1)[1]) for rollout in world.asked) >= 4
        assert all(event["invalid"] == 0 for event in world.lines("events.jsonl") if event["kind"] == "chunk")


async def test_rollouts_that_the_host_did_not_answer_are_asked_again(tmp_path):
    async with World(tmp_path) as world:
        world.silent = 3
        world.configure(rows=2)
        code, _, said = await world.run()
        assert code == 0, said
        assert len(world.lines("rollouts.jsonl")) == 2 * 4
        assert len(set(world.asked)) == len(world.asked) == 2 * 4 + 3


async def test_sigterm_ends_it_as_a_signal_and_the_next_start_goes_on(tmp_path):
    async with World(tmp_path, delay=0.05) as world:
        world.configure()
        process = await world.start()
        while len(world.asked) < 3:
            await asyncio.sleep(0.01)
        process.terminate()
        await asyncio.wait_for(process.communicate(), 300)
        assert process.returncode == -signal.SIGTERM
        assert world.status()["state"] == "RUNNING"
        code, status, said = await world.run()
        assert (code, status["state"]) == (0, "COMPLETED"), said


async def test_an_adapter_withheld_from_the_engine_stops_the_run(tmp_path):
    async with World(tmp_path) as world:
        world.configure(epochs=2)
        world.withhold_from = 2
        code, status, _ = await world.run()
        assert code == 1
        assert status["state"] == "FAILED"
        assert "does not apply the adapter" in status["message"]
        assert len(world.batches()) == 2, "no rollout is sampled from the wrong weights"


@pytest.mark.parametrize("staleness", [1, 4])
async def test_rollouts_overlap_with_training_up_to_the_bound(tmp_path, staleness):
    """The learner is as late as can be: every chunk but the first ones is sampled from a version that is older than its step."""
    async with World(tmp_path) as world:
        world.lag = staleness
        world.configure(rows=8, epochs=2, max_staleness=staleness, keep_all_checkpoints=True)
        code, status, said = await world.run()
        assert code == 0, said
        sampled_from = [{rollout.version for rollout in batch.header.rollouts} for batch in world.batches()]
        assert sampled_from == [{max(0, step - staleness)} for step in range(8)]
        assert (status["optimizer_steps"], status["best_version"]) == (8, 8), "the last version is waited for"
        assert set(world.retired) == set(world.loaded), "no version stays loaded"


async def test_staleness_never_exceeds_its_bound(tmp_path):
    async with World(tmp_path) as world:
        world.configure(epochs=2, max_staleness=2)
        code, _, said = await world.run()
        assert code == 0, said
        for batch in world.batches():
            assert all(batch.header.step - 2 <= r.version <= batch.header.step for r in batch.header.rollouts)


async def test_held_out_rows_are_scored_as_often_when_versions_pass_unserved(tmp_path):
    async with World(tmp_path) as world:
        world.lag = 4
        world.configure(rows=2)
        world.configure(
            rows=24,
            max_staleness=4,
            evaluation={"dataset": str(tmp_path / "rows.jsonl"), "every_steps": 3, "max_rows": 2},
        )
        code, status, said = await world.run()
        assert code == 0, said
        scored = [event["version"] for event in world.lines("events.jsonl") if event["kind"] == "evaluation"]
        assert {version // 3 for version in scored} == set(range(status["version"] // 3 + 1))


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_staleness_2_it_loses_and_doubles_no_step(tmp_path, seed):
    async with World(tmp_path / "plain") as world:
        world.configure(epochs=2)
        await world.run()
        expected = world.batches()
    async with World(tmp_path / "killed", delay=0.01) as world:
        world.configure(epochs=2, max_staleness=2)
        assert await world.run_with_kills(seed, kills=5), "no kill landed: the run is too short for this test"
        assert world.status()["state"] == "COMPLETED"
        batches = world.batches()
        assert [batch.header.step for batch in batches] == list(range(len(expected)))
        assert [batch.samples for batch in batches] == [batch.samples for batch in expected]
        assert all(b.header.step - 2 <= r.version <= b.header.step for b in batches for r in b.header.rollouts)
        recorded = [line["rollout_id"] for line in world.lines("rollouts.jsonl")]
        assert len(recorded) == len(set(recorded)) == 2 * 6 * 4
        assert len(world.asked) == len(set(world.asked))


async def test_requests_are_cut_where_they_grow_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("tunesmith.evaluators.client.REQUEST_BYTES", 300)
    async with World(tmp_path) as world:
        attempts = [
            {"row_index": 0, "k": k, "attempt": 0, "rollout_id": f"r{k}", "row": {"messages": ["x" * 200]}}
            for k in range(5)
        ]
        client = HostClient(world.socket)
        events = [
            event
            async for event in client.run(attempts, invocation_id="i", completion_params={}, max_concurrent_rollouts=1)
        ]
        assert [event["rollout_id"] for event in events] == [f"r{k}" for k in range(5)]
        assert world.requests == 5, "two of these do not fit into 300 bytes"


async def test_a_broken_row_is_named_by_its_line(tmp_path):
    async with World(tmp_path) as world:
        world.configure()
        with open(tmp_path / "rows.jsonl", "a") as file:
            file.write('{"messages": [\n')
        code, _, said = await world.run()
        assert code == 1
        assert "invalid JSON on line 7" in said
