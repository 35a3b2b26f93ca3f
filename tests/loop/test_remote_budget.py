"""A runaway agent spends its job's budget: the job says so, and the account goes on."""

from __future__ import annotations

from tests.loop import projects, remote
from tests.loop.agents import AgentServer
from tests.loop.platform import Platform
from tests.loop.test_story import create_rft

BUDGET = 300


def test_a_spent_budget_ends_the_job_with_its_reason(short_tmp):
    with (
        Platform(short_tmp / "h", rollout_key_budget_tokens=BUDGET) as platform,
        AgentServer("good_agent", short_tmp) as agent,
    ):
        project = remote.write(short_tmp / "budget", agent.url, ["a", "b", "c"], backoff="max_tries=0")
        job, _ = create_rft(platform, project, "--n", 4, "--max-concurrent-rollouts", 1)
        ended = platform.wait(job)
        assert ended["state"] == "JOB_STATE_FAILED"
        message = ended["status"]["message"]
        assert "has spent its budget" in message
        assert f"of {BUDGET} tokens" in message
        assert "TUNESMITH_ROLLOUT_KEY_BUDGET_TOKENS" in message
        calls = remote.captured(platform, job)
        assert BUDGET <= sum(call["tokens"] for call in calls) < 2 * BUDGET
        assert {call["id"] for call in calls} == {f"{got['id']}-0" for got in agent.said("received")}
        assert platform.chat(projects.BASE, "How many?", max_tokens=4)["choices"]
