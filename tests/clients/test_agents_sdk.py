"""An agent of the OpenAI Agents SDK, in an environment of its own: evaluated, trained token for token, and run again on what was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.servers import AGENTS, serving
from tests.loop.platform import REPO, Platform
from tests.loop.recorded import compare

pytestmark = pytest.mark.clients
EXAMPLE = REPO / "examples" / "tool_agent"
BASE = "accounts/tunesmith/models/tiny-tools-v1"
TRAINED = "accounts/local/models/from-the-agents-sdk"
ROWS = 12


@pytest.fixture(scope="module")
def agent(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    own = {**platform.env, "PYTHONPATH": str(EXAMPLE), "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    with serving(AGENTS / "python", "agents_sdk_agent", own, tmp_path_factory.mktemp("agent") / "agent.log") as url:
        yield url


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool agent's own evaluator, with a few of its rows."""
    folder = tmp_path_factory.mktemp("project") / "evaluator"
    shutil.copytree(
        EXAMPLE / "evaluator", folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", "*.jsonl")
    )
    lines = (EXAMPLE / "evaluator" / "shop_questions.jsonl").read_text().splitlines()[:ROWS]
    (folder / "shop_questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_it_is_trained_token_for_token_and_runs_on_what_was_trained(
    platform: Platform, agent: str, project: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "env"
    secrets.write_text(f"EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL={agent}\n")
    ended = platform.run(
        "ep", "create", "rft", "--yes", "--skip-validation", "--wait", "--json", "--base-model", BASE, "--env-file", secrets,
        "--n", "4", "--chunk-size", "6", "--epochs", "2", "--output-model", TRAINED.rsplit("/", 1)[-1], cwd=project,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    name = json.loads(ended.stdout.splitlines()[-1])["job"]
    job = platform.job(name)
    assert job["state"] == "JOB_STATE_COMPLETED"
    assert job["run"]["optimizer_steps"] >= 2

    found = compare(platform.data_dir / "runs" / name.rsplit("/", 1)[-1], platform.data_dir / "completions.db")
    assert found.rollouts > 0
    assert found.sampled == found.trained > 0
    assert (found.forked, found.lost, found.strange) == (0, 0, 0)
    assert found.spliced > 0, "rollouts of several turns are one sequence"

    out = tmp_path / "out"
    after = {
        "EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL": agent,
        "EP_OUTPUT_DIR": str(out),
        "EP_MAX_DATASET_ROWS": "6",
        "EP_COMPLETION_PARAMS": json.dumps([{"model": TRAINED, "temperature": 0.7, "max_tokens": 64}]),
    }
    ended = platform.run("python", "evaluation.py", cwd=project, env=after)
    assert ended.returncode == 0, ended.stdout
    assert "6 valid, 0 invalid" in ended.stdout
    rows = [json.loads(line) for file in out.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(rows) == 6
    with_tools = [row for row in rows if any(message["role"] == "tool" for message in row["messages"])]
    assert with_tools, "no conversation got to a tool"
    for row in rows:
        rollout = row["execution_metadata"]["rollout_id"]
        traces = platform.get(f"/litellm-gateway/traces?tags=rollout_id:{rollout}")["traces"]
        assert traces
        for trace in traces:
            assert trace["metadata"]["model"] == TRAINED
            assert trace["observations"][0]["model_parameters"]["dialect"] == "responses"
