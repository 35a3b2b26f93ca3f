"""kill -9 in the middle of remote rollouts, of our processes and of the agent's own server: the job goes on, and nothing is lost or doubled."""

from __future__ import annotations

import random
import time
from collections import Counter

import psutil
import pytest
from tunesmith.runs.batch import Batch

from tests.loop import remote
from tests.loop.agents import AgentServer
from tests.loop.recorded import compare
from tests.loop.test_kills import running
from tests.loop.test_story import create_rft

N = 4


def trained_ids(platform, job) -> list[str]:
    """Rollout ids of a job's batches."""
    paths = sorted((remote.run_dir(platform, job) / "batches").glob("*.safetensors"))
    return [rollout.rollout_id for path in paths for rollout in Batch.read(path).header.rollouts]


def check_the_record(platform, job, agent, rows: int, epochs: int, invalid: int = 0) -> set[str]:
    """Nothing received is missing, nothing is trained twice; returns the ids of the rollouts that count."""
    stored = {completion["id"]: completion for completion in remote.captured(platform, job)}
    received = {f"{got['id']}-0": got for got in agent.said("received")}
    for id, got in received.items():
        found = stored[id]
        assert (found["rollout_id"], found["text"], found["status"]) == (got["rollout"], got["text"], "complete")
    valid = [record for record in remote.records(platform, job) if record["is_score_valid"]]
    times = Counter((record["chunk"], record["row_index"], record["k"]) for record in valid)
    assert set(times.values()) == {1}
    assert len(times) == rows * N * epochs - invalid
    counted = {record["rollout_id"] for record in valid}
    trained = trained_ids(platform, job)
    assert len(trained) == len(set(trained)) > 0
    assert set(trained) <= counted
    found = compare(remote.run_dir(platform, job), platform.data_dir / "completions.db")
    unread = [  # recorded, but the gateway died before its client had it, and the client asked again
        len(completion["sampled_ids"]) // 4
        for id, completion in stored.items()
        if id not in received and completion["status"] == "complete" and completion["rollout_id"] in set(trained)
    ]
    assert found.calls == 2 * found.rollouts + len(unread)
    assert found.sampled == found.trained + sum(unread)
    assert (found.forked, found.lost, found.strange) == (0, sum(unread), 0)
    return counted


@pytest.mark.parametrize("victims", [("web", "web"), ("orchestrator", "worker")], ids=["gateway", "data-side"])
def test_what_was_in_the_middle_is_rolled_again_under_new_ids(platform, short_tmp, victims):
    names = [*(f"row-{i}" for i in range(4)), "patient-0", "patient-1"]
    rows, epochs, rng = len(names), 2, random.Random()
    with AgentServer("good_agent", short_tmp) as agent:
        project = remote.write(short_tmp / victims[0], agent.url, names)
        output = f"remote-kills-{victims[0]}"
        flags = ("--n", N, "--epochs", epochs, "--max-concurrent-rollouts", 8, "--output-model", output)
        job, _ = create_rft(platform, project, *flags)
        moments = (rng.randrange(4, 24), rng.randrange(rows * N * 2 + 4, rows * N * 2 + 24))
        for victim, after in zip(victims, moments, strict=True):
            remote.wait_for(lambda after=after: len(agent.said("received")) >= after, platform, job)
            time.sleep(rng.uniform(0, 0.2))
            killed = running(platform)[victim]
            psutil.Process(killed).kill()
            print(f"{victim} killed after {after} answers, at {len(agent.said('received'))}")
            remote.wait_for(lambda name=victim, pid=killed: running(platform).get(name, pid) != pid, platform, job)
        remote.wait_for(lambda: platform.get("/health"), platform, job)
        done = platform.wait(job)
        assert done["state"] == "JOB_STATE_COMPLETED", done
        assert done["run"]["optimizer_steps"] == epochs
        counted = check_the_record(platform, job, agent, rows, epochs)
        begun = [line["body"]["metadata"]["rollout_id"] for line in agent.said("init")]
    assert len(begun) == len(set(begun))
    again = [id for id in counted if not id.endswith("-a0")]
    assert again, "no rollout was in the middle"
    assert set(begun) - counted, "what had begun is given up, not trained"


def test_the_agents_server_is_killed_and_started_again(platform, short_tmp):
    names = ["held", *(f"row-{i}" for i in range(5))]
    with AgentServer("good_agent", short_tmp) as agent:
        project = remote.write(
            short_tmp / "agent",
            agent.url,
            names,
            options="timeout_seconds=15",
            backoff="giveup_func=lambda error: 'timed out' in str(error)",
        )
        job, _ = create_rft(
            platform, project, "--n", N, "--max-concurrent-rollouts", 6, "--output-model", "remote-agent"
        )

        def in_the_middle() -> bool:
            received = Counter(line["rollout"] for line in agent.said("received"))
            held = [times for id, times in received.items() if "-r0-" in id]
            return len(held) == N and 2 in received.values()

        remote.wait_for(in_the_middle, platform, job)
        agent.kill()
        agent.release()
        agent.start()
        done = platform.wait(job)
        assert done["state"] == "JOB_STATE_COMPLETED", done
        lost = [record for record in remote.records(platform, job) if not record["is_score_valid"]]
        timed_out = [record for record in lost if "timed out after 15 seconds" in record["reason"]]
        assert {record["row_index"] for record in timed_out} >= {0}
        assert N <= len(timed_out) <= 6, "what was in flight"
        for record in lost:
            assert record in timed_out or f"The agent server {agent.url} could not be asked" in record["reason"]
            assert record["score"] is None
        counted = check_the_record(platform, job, agent, len(names), 1, invalid=len(timed_out))
    assert not counted & {record["rollout_id"] for record in lost}
