"""A whole job whose agent lives on a server of its own: trained to the token, its gold answers kept, its keys and rollouts closed."""

from __future__ import annotations

import json
import time
import urllib.request

from tunesmith.runs.batch import Batch

from tests.loop import remote
from tests.loop.agents import AgentServer
from tests.loop.recorded import compare
from tests.loop.test_story import create_rft

NAMES = ["plain-0", "plain-1", "plain-2", "plain-3", "held"]
N = 4


def test_a_job_trains_exactly_what_an_agent_elsewhere_sampled(platform, short_tmp):
    with AgentServer("good_agent", short_tmp) as agent:
        project = remote.write(short_tmp / "story", agent.url, NAMES)
        job, _ = create_rft(platform, project, "--n", N, "--epochs", "2", "--output-model", "remote-story")

        # The agent holds one row back, so that the job still runs when another row's rollouts are over.
        ended = remote.wait_for(
            lambda: [r for r in platform.get(f"/v1/{job}/rollouts?pageSize=100")["rollouts"] if r["isScoreValid"]],
            platform,
            job,
        )[0]
        begun = {line["body"]["metadata"]["rollout_id"]: line["body"] for line in agent.said("init")}
        body = begun[ended["rolloutId"]]
        late = {"model": body["completion_params"]["model"], "messages": [{"role": "user", "content": "late"}]}
        status, answer = remote.post(f"{body['model_base_url']}/chat/completions", body["api_key"], late)
        assert (status, answer["error"]["code"]) == (409, "rollout_closed")
        agent.release()
        done = platform.wait(job)
        assert done["state"] == "JOB_STATE_COMPLETED", done
        assert done["run"]["optimizer_steps"] == 2

        inits = [line["body"] for line in agent.said("init")]
        received = {line["id"]: line for line in agent.said("received")}
    assert len({init["metadata"]["rollout_id"] for init in inits}) == len(inits) == len(NAMES) * N * 2

    completions = {completion["id"]: completion for completion in remote.captured(platform, job)}
    assert len(received) == len(completions) == 2 * len(inits)
    for id, got in received.items():
        found = completions[f"{id}-0"]
        assert (found["rollout_id"], found["text"], found["status"]) == (got["rollout"], got["text"], "complete")
    found = compare(remote.run_dir(platform, job), platform.data_dir / "completions.db")
    assert found.calls == 2 * found.rollouts > 0
    assert found.sampled == found.trained > 0
    assert (found.forked, found.lost, found.strange) == (0, 0, 0)
    assert found.spliced == found.rollouts
    for path in (remote.run_dir(platform, job) / "batches").glob("*.safetensors"):
        asked = {init["metadata"]["rollout_id"] for init in inits}
        assert {rollout.rollout_id for rollout in Batch.read(path).header.rollouts} <= asked

    assert remote.GOLD in (project / "rows.jsonl").read_text()
    assert remote.GOLD not in json.dumps(inits)
    for completion in completions.values():
        assert remote.GOLD not in completion["request"] + completion["message"]
    invocation = inits[0]["metadata"]["invocation_id"]
    traces = platform.get(f"/litellm-gateway/traces?tags=invocation_id:{invocation}&limit=1000")
    assert traces["total_traces"] == len(NAMES) * N * 2
    assert remote.GOLD not in json.dumps(traces)
    logs = platform.get(f"/litellm-gateway/logs?tags=rollout_id:{ended['rolloutId']}")
    assert logs["entries"]
    assert remote.GOLD not in json.dumps(logs)

    for key in {init["api_key"] for init in inits}:
        assert key != platform.key
        deadline = time.monotonic() + 60  # the gateway remembers keys for some seconds
        while (answered := remote.post(f"{platform.url}/litellm-gateway/v1/logs", key, _line()))[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert answered[0] == 401
        assert remote.post(f"{body['model_base_url']}/chat/completions", key, late)[0] == 401
    with urllib.request.urlopen(platform.url + "/health") as health:
        assert health.status == 200


def _line() -> dict:
    return {"message": "late", "tags": ["rollout_id:of-an-ended-job"]}
