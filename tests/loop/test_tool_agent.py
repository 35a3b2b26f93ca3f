"""The tool agent on its own server, rolled out and trained through the public command line, token for token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tunesmith.runs.batch import Batch, Sample

from tests.loop.platform import Platform
from tests.loop.recorded import calls_by_rollout, compare
from tests.loop.tool_agent import BASE, EVALUATOR, EXAMPLE, AgentServer, agent_server

ROWS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentServer]:
    with agent_server(tmp_path_factory.mktemp("agent") / "agent.log") as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "evaluator"
    shutil.copytree(EVALUATOR, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", "*.jsonl"))
    rows = (EVALUATOR / "shop_questions.jsonl").read_text().splitlines()[:ROWS]
    (folder / "shop_questions.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_the_readmes_eval_scores_conversations_with_tools(
    platform: Platform, server: AgentServer, tmp_path: Path
) -> None:
    settings = {**server.setting, "EP_OUTPUT_DIR": str(tmp_path), "EP_MAX_DATASET_ROWS": "8"}
    settings["EP_JSONL_PATH"] = str(EXAMPLE / "held_out.jsonl")
    ended = platform.run("python", "evaluation.py", cwd=EVALUATOR, env=settings)
    assert ended.returncode == 0, ended.stdout
    assert "8 valid, 0 invalid" in ended.stdout
    rows = [json.loads(line) for file in tmp_path.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(rows) == 8
    assert {row["evaluation_result"]["score"] for row in rows} <= {0.0, 0.2, 1.0}
    with_tools = [row for row in rows if any(message["role"] == "tool" for message in row["messages"])]
    assert with_tools, "no conversation got to a tool"
    for row in with_tools:
        roles = [message["role"] for message in row["messages"]]
        assert roles[:3] == ["system", "user", "assistant"]
        asked = [call["id"] for message in row["messages"] for call in message.get("tool_calls") or []]
        answered = [message["tool_call_id"] for message in row["messages"] if message["role"] == "tool"]
        assert answered == asked[: len(answered)]


def test_every_sampled_token_of_every_turn_is_trained_as_it_was_recorded(
    platform: Platform, server: AgentServer, project: Path, tmp_path: Path
) -> None:
    command = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", BASE, "--wait", "--json"]
    command += ["--env-file", server.env_file(tmp_path / "env"), "--n", "4", "--chunk-size", "6", "--epochs", "2"]
    ended = platform.run(*command, cwd=project)
    assert ended.returncode == 0, ended.stdout
    name = json.loads(ended.stdout.splitlines()[-1])["job"]
    assert platform.job(name)["state"] == "JOB_STATE_COMPLETED"
    run, database = platform.data_dir / "runs" / name.rsplit("/", 1)[-1], platform.data_dir / "completions.db"
    found = compare(run, database)
    assert found.rollouts > 0
    assert found.sampled == found.trained > 0
    assert (found.forked, found.lost, found.strange) == (0, 0, 0)
    assert found.spliced > 0, "rollouts of several turns are one sequence"

    # The comparison sees what it is there for: another token, a lost one, a conversation in two pieces.
    step = next(path for path in sorted((run / "batches").glob("step-*.safetensors")))
    batch, recorded = Batch.read(step), calls_by_rollout(database)
    place, sample = next((i, s) for i, s in enumerate(batch.samples) if _turns(batch, s, recorded) > 1)
    said = sample.sampled.index(1)
    other = [*sample.token_ids[:said], sample.token_ids[said] + 1, *sample.token_ids[said + 1 :]]
    silent = [*sample.sampled[:said], 0, *sample.sampled[said + 1 :]]
    first = len(recorded[batch.header.rollouts[sample.rollout].rollout_id][0].prompt_ids)
    first += len(recorded[batch.header.rollouts[sample.rollout].rollout_id][0].sampled_ids)
    head = Sample(sample.token_ids[:first], sample.sampled[:first], sample.logprobs[:first], sample.rollout)
    tail = replace(sample, sampled=[0] * first + sample.sampled[first:])
    whole = compare(_copy(tmp_path / "whole", step, batch.samples), database)
    for label, changed, expected in (
        ("other", [replace(sample, token_ids=other)], (0, 1, 1, 1)),
        ("silent", [replace(sample, sampled=silent)], (0, 1, 0, 0)),
        ("forked", [head, tail], (1, 0, 0, 1)),
    ):
        samples = [*batch.samples[:place], *changed, *batch.samples[place + 1 :]]
        seen = compare(_copy(tmp_path / label, step, samples), database)
        assert (seen.forked, seen.lost, seen.strange, whole.spliced - seen.spliced) == expected, label


def _turns(batch: Batch, sample: Sample, recorded: dict) -> int:
    return len(recorded[batch.header.rollouts[sample.rollout].rollout_id])


def _copy(folder: Path, step: Path, samples: list[Sample]) -> Path:
    """A run directory with one batch, its samples changed."""
    (folder / "batches").mkdir(parents=True)
    Batch(Batch.read(step).header, samples).write(folder / "batches" / step.name)
    return folder
