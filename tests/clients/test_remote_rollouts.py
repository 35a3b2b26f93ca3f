"""The published RemoteRolloutProcessor, run by the published pytest plugin, an agent server of the same package, our platform between them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clients.servers import PUBLISHED, serving
from tests.loop.platform import Platform
from tests.loop.projects import BASE
from tests.loop.recorded import Call, calls_by_rollout

pytestmark = pytest.mark.clients
EVALUATION = """
from eval_protocol.models import EvaluateResult, EvaluationRow, InputMetadata, Message
from eval_protocol.pytest import RemoteRolloutProcessor, evaluation_test

QUESTION = Message(role="user", content="Tom has 2 apples and buys 3 more. How many now?")

def rows(*names):
    return [[EvaluationRow(messages=[QUESTION], input_metadata=InputMetadata(row_id=name)) for name in names]]

def scored_by_turns(row):
    said = sum(message.role == "assistant" for message in row.messages)
    row.evaluation_result = EvaluateResult(score=said / 2, reason=f"{said} answers")
    return row

PARAMS = [{"model": "BASE", "temperature": 1.0, "max_tokens": 12}]

@evaluation_test(
    input_rows=rows("plain", "tired", "away", "wrong"), completion_params=PARAMS,
    rollout_processor=RemoteRolloutProcessor(poll_interval=0.2, timeout_seconds=90),
)
def remote(row: EvaluationRow) -> EvaluationRow:
    return scored_by_turns(row)

@evaluation_test(
    input_rows=rows("payloads"), completion_params=PARAMS,
    rollout_processor=RemoteRolloutProcessor(poll_interval=0.2, timeout_seconds=90, include_payloads=True),
)
def with_payloads(row: EvaluationRow) -> EvaluationRow:
    return scored_by_turns(row)
""".replace("BASE", BASE)


@dataclass(frozen=True)
class Run:
    """One run of the evaluation.

    Attributes:
        rows: By row id.
        printed: What pytest printed.
        asked: How often the agent was asked for each row.
        recorded: Calls that the gateway recorded, by rollout id.
    """

    rows: dict[str, dict[str, Any]]
    printed: str
    asked: dict[str, int]
    recorded: dict[str, list[Call]]

    def calls(self, row: str) -> list[Call]:
        return self.recorded[self.rows[row]["execution_metadata"]["rollout_id"]]


@pytest.fixture(scope="module")
def agent(platform: Platform, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("agent") / "agent.log"
    with serving(PUBLISHED / "python", "published_agent", {**platform.env, **environment}, log) as url:
        yield url


@pytest.fixture(scope="module")
def run(platform: Platform, environment: dict[str, str], agent: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("remote")
    (folder / "evaluation.py").write_text(EVALUATION)
    ended = platform.run(
        PUBLISHED / "python", "-m", "pytest", "-s", "evaluation.py", "--ep-output-dir", folder / "out", "-p", "no:cacheprovider",
        cwd=folder, env={**environment, "EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL": agent},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    lines = [
        line
        for file in (folder / "out" / "experiment_results").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    with urllib.request.urlopen(f"{agent}/health") as answer:
        asked = json.loads(answer.read())
    rows = {row["input_metadata"]["row_id"]: row for row in map(json.loads, lines)}
    assert set(rows) == {"plain", "tired", "away", "wrong", "payloads"}
    return Run(rows, ended.stdout, asked, calls_by_rollout(platform.data_dir / "completions.db"))


@pytest.mark.parametrize("name", ["plain", "tired", "away", "payloads"])
def test_the_conversation_comes_back_from_the_traces(run: Run, platform: Platform, name: str) -> None:
    row = run.rows[name]
    assert row["rollout_status"]["code"] == 100
    assert row["rollout_status"]["message"] == "Rollout finished"
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert row["messages"][2]["content"] == "And now?"
    assert row["evaluation_result"]["score"] == 1.0
    assert row["execution_metadata"]["extra"]["mood"] == "good", "the extras of the final log line"
    traces = platform.get(f"/litellm-gateway/traces?tags=rollout_id:{row['execution_metadata']['rollout_id']}")[
        "traces"
    ]
    said = [(message["role"], message["content"]) for message in row["messages"]]
    recorded = [[*trace["input"]["messages"], trace["output"]] for trace in traces]
    assert said in [[(message["role"], message["content"]) for message in messages] for messages in recorded]


def test_what_was_recorded_carries_the_ids_of_the_row(run: Run, platform: Platform) -> None:
    row = run.rows["plain"]
    assert len(run.calls("plain")) == 2
    ids = row["execution_metadata"]
    found = platform.get(f"/litellm-gateway/v1/traces?tags=rollout_id:{ids['rollout_id']}")["traces"]
    assert len(found) == 2
    wanted = {
        *(f"{name}:{ids[name]}" for name in ("rollout_id", "invocation_id", "experiment_id", "run_id")),
        "row_id:plain",
    }
    assert all(set(trace["tags"]) == wanted for trace in found)


def test_the_agents_lines_are_there_and_the_status_is_said(run: Run, platform: Platform) -> None:
    rollout = run.rows["plain"]["execution_metadata"]["rollout_id"]
    entries = platform.get(f"/litellm-gateway/logs?tags=rollout_id:{rollout}&program=eval_protocol")["entries"]
    assert [entry["message"] for entry in entries] == ["done", "asked twice for row plain"]
    assert entries[0]["status"]["code"] == 100
    assert f"Found status for rollout {rollout} with code 100" in run.printed


def test_a_retryable_failure_is_tried_again_under_the_same_rollout_id(run: Run) -> None:
    assert run.asked["plain"] == run.asked["payloads"] == run.asked["wrong"] == 1
    assert run.asked["tired"] >= 2
    assert len(run.calls("tired")) >= 4, "both tries are recorded, under one id"
    assert run.asked["away"] == 2
    assert len(run.calls("away")) == 2


def test_a_failure_that_is_not_worth_another_try_is_the_rows_status(run: Run) -> None:
    status = run.rows["wrong"]["rollout_status"]
    assert status["code"] == 13, "what the client makes of any failure that is left"
    assert "no such task" in status["message"]


def test_payloads_are_what_the_gateway_recorded(run: Run) -> None:
    turns = run.rows["payloads"]["execution_metadata"]["extra"]["assistant_turn_payloads"]
    calls = run.calls("payloads")
    assert len(turns) == len(calls) == 2
    for turn, call in zip(turns, calls, strict=True):
        assert turn["prompt_token_ids"] == call.prompt_ids
        assert turn["completion_token_ids"] == call.sampled_ids
        assert turn["completion_logprobs"] == call.logprobs
    first, second = calls
    spoken = first.prompt_ids + first.sampled_ids
    assert second.prompt_ids[: len(spoken)] == spoken, "null-laden messages are recognised as what was said"


def test_the_results_are_uploaded_here(run: Run, platform: Platform) -> None:
    """The client does so whenever it has a key."""
    jobs = platform.get("/v1/accounts/local/evaluationJobs")["evaluationJobs"]
    for row in (run.rows["plain"], run.rows["payloads"]):
        experiment = row["execution_metadata"]["experiment_id"]
        assert any(experiment in job["outputDataset"] for job in jobs), jobs
