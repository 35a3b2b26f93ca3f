"""An agent on a server of its own, against a platform as a user starts it: rolled out, traced with ids, scored, closed."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop.platform import BIN, Platform, free_port
from tests.loop.projects import BASE

AGENT = """
import json, logging, os
from openai import AsyncOpenAI
from eval_protocol import InitRequest
from eval_protocol.tracing import agent_app

logging.basicConfig(level=logging.INFO)
logging.getLogger("httpx").setLevel(logging.WARNING)
tries = set()

async def rollout(request: InitRequest) -> None:
    row = request.metadata.row_id
    print(json.dumps({"row": row, "base_url": request.model_base_url, "key": request.api_key,
                      "rollout": request.metadata.rollout_id}), flush=True)
    client = AsyncOpenAI(base_url=request.model_base_url, api_key=request.api_key, max_retries=0)
    params = {"model": request.completion_params["model"], "max_tokens": 16}
    messages = [m.dump_model_for_chat_completion_request() for m in request.messages]
    first = await client.chat.completions.create(messages=messages, **params)
    if row == "breaks" and row not in tries:
        tries.add(row)
        raise TimeoutError("the first try breaks")
    if row == "wrong-model":
        await client.chat.completions.create(messages=messages, model="accounts/local/models/no-such-model")
    messages += [first.choices[0].message.model_dump(), {"role": "user", "content": "And now?"}]
    await client.chat.completions.create(messages=messages, **params)
    logging.getLogger("agent").info("both turns done")

app = agent_app(rollout)
"""
EVALUATION = """
from eval_protocol.models import EvaluateResult, EvaluationRow, InputMetadata, Message
from eval_protocol.pytest import RemoteRolloutProcessor, evaluation_test

ROWS = [
    EvaluationRow(
        messages=[Message(role="user", content="Tom has 2 apples and buys 3 more. How many now?"), Message(role="assistant", content="GOLD")],
        ground_truth="GOLD", input_metadata=InputMetadata(row_id=name),
    )
    for name in ("plain", "breaks", "wrong-model")
]

@evaluation_test(
    input_rows=[ROWS],
    completion_params=[{"model": "BASE", "temperature": 1.0}],
    rollout_processor=RemoteRolloutProcessor(remote_base_url="SERVER", include_payloads=PAYLOADS),
)
def scored(row: EvaluationRow) -> EvaluationRow:
    row.evaluation_result = EvaluateResult(score=1.0, reason="")
    return row
"""


@pytest.fixture
def agent(tmp_path: Path, platform: Platform) -> Iterator[str]:
    """The agent server; what it prints lies in agent.log."""
    (tmp_path / "agent.py").write_text(AGENT)
    port = free_port()
    argv = [BIN / "uvicorn", "agent:app", "--port", str(port), "--log-level", "warning"]
    with open(tmp_path / "agent.log", "wb") as log:
        process = subprocess.Popen(argv, cwd=tmp_path, env=platform.env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        subprocess.run(
            [
                "curl",
                "--silent",
                "--fail",
                "--retry",
                "60",
                "--retry-delay",
                "1",
                "--retry-connrefused",
                f"{url}/health",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_an_agent_elsewhere_is_rolled_out_traced_and_closed(platform: Platform, agent: str, tmp_path: Path) -> None:
    evaluation = EVALUATION.replace("BASE", BASE).replace("SERVER", agent)
    (tmp_path / "short.py").write_text(evaluation.replace("PAYLOADS", "False"))
    short = platform.run(BIN / "pytest", "short.py", "--ep-max-rows", "1", "--ep-output-dir", "short", cwd=tmp_path)
    assert short.returncode == 0, short.stdout
    [results] = (tmp_path / "short" / "experiment_results").iterdir()
    row = json.loads(results.read_text())
    begun = [json.loads(line) for line in (tmp_path / "agent.log").read_text().splitlines() if line.startswith("{")]
    traces = platform.get(f"/litellm-gateway/traces?tags=rollout_id:{begun[0]['rollout']}")["traces"]
    assert len(traces) == 2
    used = [trace["metadata"]["usage"] for trace in traces]
    prompt, completion = (sum(one[name] for one in used) for name in ("prompt_tokens", "completion_tokens"))
    expected = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    assert row["execution_metadata"]["usage"] == expected

    (tmp_path / "evaluation.py").write_text(evaluation.replace("PAYLOADS", "True"))
    done = platform.run(BIN / "pytest", "-s", "evaluation.py", "--ep-output-dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Found Fireworks log for rollout" in done.stdout
    assert "with status code 100.0" in done.stdout
    [results] = (tmp_path / "out" / "experiment_results").iterdir()
    rows = {row["input_metadata"]["row_id"]: row for row in map(json.loads, results.read_text().splitlines())}

    for name in ("plain", "breaks"):
        row = rows[name]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
        assert "GOLD" not in json.dumps(row["messages"])
        assert row["rollout_status"]["code"] == 100
        ids = row["execution_metadata"]
        assert ids["rollout_id"].endswith("-t1") == (name == "breaks")
        turns = ids["extra"]["assistant_turn_payloads"]
        assert [turn["assistant_turn_index"] for turn in turns] == [0, 1]
        spoken = [*turns[0]["prompt_token_ids"], *turns[0]["completion_token_ids"]]
        assert turns[1]["prompt_token_ids"][: len(spoken)] == spoken
        assert ids["usage"]["completion_tokens"] == sum(len(turn["completion_token_ids"]) for turn in turns)
        assert ids["extra"]["prompt_token_ids"] == turns[1]["prompt_token_ids"]
    wrong = rows["wrong-model"]["rollout_status"]
    assert wrong["code"] == 5
    assert "no-such-model" in wrong["message"]

    begun = [json.loads(line) for line in (tmp_path / "agent.log").read_text().splitlines() if line.startswith("{")]
    assert len({one["rollout"] for one in begun}) == len(begun)
    plain = next(one for one in begun if one["row"] == "plain")
    logs = platform.get(f"/litellm-gateway/logs?tags=rollout_id:{plain['rollout']}")["entries"]
    assert {"both turns done", f"Rollout {plain['rollout']} completed"} <= {entry["message"] for entry in logs}
    with pytest.raises(urllib.error.HTTPError) as closed:
        _chat(plain["base_url"], plain["key"])
    closed.value.close()
    assert closed.value.code == 409


def _chat(base_url: str, key: str) -> Any:
    body = json.dumps({"model": BASE, "messages": [{"role": "user", "content": "late"}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(f"{base_url}/chat/completions", body, headers)) as answer:
        return json.loads(answer.read())
