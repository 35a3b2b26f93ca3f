"""The SVG agent on its own servers against the real platform: the eval that the README shows, and a job whose agent is TypeScript."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.agent_server import SERVERS, Agent, agent_server
from tests.loop.platform import Platform

BASE = "accounts/tunesmith/models/tiny-svg-v1"
EVALUATOR = SERVERS / "evaluator"
ROWS = 12


@pytest.fixture(scope="module", params=["py", "ts"])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    if request.param == "ts" and shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm is not installed")
    with agent_server(request.param, tmp_path_factory.mktemp("agent") / "agent.log", port=0) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "evaluator"
    shutil.copytree(EVALUATOR, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", "*.jsonl", ".env"))
    rows = (EVALUATOR / "drawings_dataset.jsonl").read_text().splitlines()[:ROWS]
    (folder / "drawings_dataset.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_the_readmes_eval_scores_drawings(platform: Platform, agent: Agent, tmp_path: Path) -> None:
    settings = {**agent.setting, "EP_OUTPUT_DIR": str(tmp_path), "EP_MAX_DATASET_ROWS": "8"}
    settings["EP_JSONL_PATH"] = str(SERVERS / "held_out.jsonl")
    ended = platform.run("python", "evaluation.py", cwd=EVALUATOR, env=settings)
    assert ended.returncode == 0, ended.stdout
    assert "8 valid, 0 invalid" in ended.stdout
    rows = [json.loads(line) for file in tmp_path.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["rollout_status"]["code"] == 100
    reasons = [row["evaluation_result"]["reason"] for row in rows]
    assert sum("geometric judge" in reason for reason in reasons) >= 4, reasons  # the model may misspell a drawing


def test_a_job_trains_on_what_the_agent_drew(platform: Platform, agent: Agent, project: Path, tmp_path: Path) -> None:
    command = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", BASE, "--force", "--wait", "--json"]
    command += ["--n", "4", "--ignore-docker", "--env-file", str(agent.env_file(tmp_path / "env"))]
    ended = platform.run(*command, cwd=project)
    assert ended.returncode == 0, ended.stdout
    job = platform.job(json.loads(ended.stdout.splitlines()[-1])["job"])
    assert job["state"] == "JOB_STATE_COMPLETED"
    assert job["run"]["optimizer_steps"] >= 1
    assert platform.get(f"/v1/{job['name']}/metrics")["metrics"][0]["trained_tokens"] > 0
