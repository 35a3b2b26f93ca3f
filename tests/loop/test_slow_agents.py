"""A job whose agents hang now and then: with a deadline and a quorum it ends, the stragglers are on record, and none of them is trained."""

from __future__ import annotations

from tests.loop import projects
from tests.loop.test_story import create_rft

HANGS = (
    projects.HEADER.replace(
        "@evaluation_test",
        """class Slow(SingleTurnRolloutProcessor):
    def __call__(self, rows, config):
        import asyncio

        async def never(row):
            await asyncio.sleep(3600)
            return row

        fast = [row for row in rows if "-k3-" not in row.execution_metadata.rollout_id]
        tasks = dict(zip(map(id, fast), super().__call__(fast, config)))
        return [tasks[id(row)] if id(row) in tasks else asyncio.create_task(never(row)) for row in rows]


@evaluation_test""",
    ).replace("rollout_processor=SingleTurnRolloutProcessor()", "rollout_processor=Slow()")
    + projects.BODIES["dense"]
    + projects.FOOTER
)


def test_a_job_ends_although_an_agent_of_each_group_never_does(platform, short_tmp):
    project = projects.write(short_tmp / "slow", source=HANGS, dataset=projects.rows(5))
    sizes = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "5")
    name, _ = create_rft(platform, project, *sizes, "--group-deadline-seconds", "0.5", "--group-quorum", "3")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert (job["groupDeadlineSeconds"], job["groupQuorum"]) == (0.5, 3)
    rollouts = platform.get(f"/v1/{name}/rollouts?pageSize=200&view=SUMMARY")["rollouts"]
    late = [rollout for rollout in rollouts if rollout["reason"].startswith("straggler")]
    assert {rollout["k"] for rollout in late} == {3}
    assert len(late) == 5
    assert len(rollouts) == 20
    assert not any(rollout["isScoreValid"] or rollout.get("advantage") for rollout in late)
    chunk = next(event for event in platform.get(f"/v1/{name}/metrics")["events"] if event["kind"] == "chunk")
    assert (chunk["stragglers"], chunk["invalid"], chunk["sealed"]) == (5, 0, 1)
