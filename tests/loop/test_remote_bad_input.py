"""Agents that misbehave, in jobs as a user starts them: each row fails for a reason that is told, and costs no other row anything."""

from __future__ import annotations

from collections import defaultdict

import pytest
from tunesmith.runs.batch import Batch

from tests.loop import bad_agent, remote
from tests.loop.agents import AgentServer
from tests.loop.platform import free_port
from tests.loop.recorded import compare
from tests.loop.test_story import create_rft

N = 2
FAILING = {
    "refuses": "answered POST /init with 422 Unprocessable Entity: this agent takes no such row",
    "breaks": "answered POST /init with 500 Internal Server Error: this agent is broken",
    "slow": "did not answer POST /init within 4 s",
    "never-finishes": "timed out after 15 seconds: the agent server {url} posted no final status",
    "wrong-model": "no-such-model",
    "too-long": "holds 4096",
}
"""What a row's recorded reason must say."""
WORKING = [
    *("plain-0", "plain-1", "odd-answer", "finishes-twice"),
    *("ends-a-stranger", "logs-too-much", "malformed-calls", "late"),
]
QUICK = {"options": "timeout_seconds=15, init_timeout_seconds=4", "backoff": "max_tries=1, base_delay=0.1"}


@pytest.fixture(scope="module")
def job(platform, tmp_path_factory):
    """One job with every kind of row: (name, the agent, its records by row)."""
    folder = tmp_path_factory.mktemp("bad")
    with AgentServer("bad_agent", folder) as agent:
        names = [*WORKING, *FAILING]
        project = remote.write(folder / "bad", agent.url, names, **QUICK)
        job, _ = create_rft(platform, project, "--n", N, "--output-model", "remote-bad")
        ended = platform.wait(job)
        assert ended["state"] == "JOB_STATE_COMPLETED", ended
        by_row = defaultdict(list)
        for record in remote.records(platform, job):
            by_row[names[record["row_index"]]].append(record)
        return job, agent, by_row


@pytest.mark.parametrize("row", FAILING)
def test_a_row_that_fails_says_why_and_is_no_zero(job, row):
    _, agent, by_row = job
    assert {record["k"] for record in by_row[row]} == set(range(N))
    for record in by_row[row]:
        assert not record["is_score_valid"]
        assert record["score"] is None
        assert FAILING[row].format(url=agent.url) in record["reason"]


@pytest.mark.parametrize("row", WORKING)
def test_a_row_that_its_agent_gets_right_in_the_end_is_scored(job, row):
    _, _, by_row = job
    assert sorted(record["k"] for record in by_row[row] if record["is_score_valid"]) == list(range(N))


def test_the_tokens_of_the_rows_that_worked_are_trained_as_recorded(platform, job):
    found = compare(remote.run_dir(platform, job[0]), platform.data_dir / "completions.db")
    assert found.rollouts > 0
    assert found.sampled == found.trained > 0
    assert (found.lost, found.strange) == (0, 0)


def test_what_was_malformed_was_answered_with_400_and_its_reason(job):
    _, agent, _ = job
    by_rollout = defaultdict(list)
    for line in agent.said("answered"):
        by_rollout[line["rollout"]].append(line)
    ids = [line["rollout"] for line in agent.said("init") if line["row"] == "malformed-calls"]
    assert len(ids) >= N
    for id in ids:
        calls, logs = by_rollout[id][:4], by_rollout[id][4:6]
        assert [line["status"] for line in calls + logs] == [400] * 6
        assert "JSON" in calls[0]["text"]
        assert "messages" in calls[3]["text"] or "model" in calls[3]["text"]
        assert "rollout_id:ID" in logs[1]["text"]


def test_logs_above_the_limit_are_refused_and_long_ones_cut(platform, job):
    _, agent, by_row = job
    id = by_row["logs-too-much"][0]["rollout_id"]
    logs = [line for line in agent.said("answered") if line["rollout"] == id and line["route"] == "logs"]
    assert logs[0]["status"] == 413
    assert "TUNESMITH_MAX_LOG_BYTES" in logs[0]["text"]
    assert {line["status"] for line in logs[1:]} == {200}
    entries = platform.get(f"/litellm-gateway/logs?tags=rollout_id:{id}&limit=1000")["entries"]
    kept = [entry for entry in entries if entry["message"].startswith("line ")]
    assert len(kept) == bad_agent.MEGABYTES * 4
    assert all("[cut: " in entry["message"] for entry in kept)


def test_a_status_for_a_rollout_that_nobody_began_changes_nothing(platform, job):
    status = platform.get(f"/litellm-gateway/status?rollout_id={bad_agent.STRANGER}")["status"]
    assert status["code"] == 100
    assert bad_agent.STRANGER not in {record["rollout_id"] for record in remote.records(platform, job[0])}


def test_what_a_zombie_samples_late_is_never_trained(platform, job):
    name, _, by_row = job
    trained = set()
    for path in (remote.run_dir(platform, name) / "batches").glob("*.safetensors"):
        trained |= {rollout.rollout_id for rollout in Batch.read(path).header.rollouts}
    calls = defaultdict(list)
    for completion in remote.captured(platform, name):
        calls[completion["rollout_id"]].append(completion)
    for record in by_row["late"]:
        zombie, _, number = record["rollout_id"].rpartition("-t")
        assert number == "1", "the second try is the one that counts"
        assert len(calls[record["rollout_id"]]) == 1
        assert len(calls[zombie]) == 2, "the zombie's late call was recorded, under its own id"
        assert calls[zombie][1]["created_at"] < calls[record["rollout_id"]][0]["created_at"]
        assert zombie not in trained
        assert [m["content"] for m in record["row"]["messages"] if m["role"] == "user"][1:] == []


def test_more_than_half_without_a_score_fails_with_the_commonest_reasons(platform, short_tmp):
    with AgentServer("bad_agent", short_tmp) as agent:
        names = ["refuses", "refuses", "wrong-model", "plain"]
        project = remote.write(short_tmp / "mostly", agent.url, names, **{**QUICK, "backoff": "max_tries=0"})
        job, _ = create_rft(platform, project, "--n", N)
        ended = platform.wait(job)
    assert ended["state"] == "JOB_STATE_FAILED"
    message = ended["status"]["message"]
    assert "6 of 8 rollouts of chunk 0 have no valid score" in message
    assert FAILING["refuses"] in message
    assert message.index("(4x)") < message.index("no-such-model") < message.index("(2x)")


def test_an_agent_server_that_is_down_is_named(platform, short_tmp):
    url = f"http://127.0.0.1:{free_port()}"
    project = remote.write(short_tmp / "down", url, ["a", "b"], backoff="max_tries=0")
    job, _ = create_rft(platform, project, "--n", N)
    ended = platform.wait(job)
    assert ended["state"] == "JOB_STATE_FAILED"
    assert f"The agent server {url} could not be asked to begin" in ended["status"]["message"]
    assert "(4x)" in ended["status"]["message"]
