"""The agent server of the SVG example in TypeScript, with the published npm `eval-protocol`, driven by both clients through our gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.agent_server import SERVERS, Agent, agent_server
from tests.clients.servers import PUBLISHED
from tests.loop.platform import Platform, free_port
from tests.loop.recorded import calls_by_rollout

pytestmark = pytest.mark.clients
EVALUATOR = SERVERS / "evaluator"
ROWS = 3
EVALUATION = """
from eval_protocol.models import EvaluateResult, EvaluationRow
from eval_protocol.pytest import RemoteRolloutProcessor, evaluation_test

@evaluation_test(
    input_dataset=["rows.jsonl"],
    dataset_adapter=lambda rows: [EvaluationRow(**row) for row in rows],
    completion_params=[{"model": "accounts/tunesmith/models/tiny-svg-v1", "temperature": 0.7, "max_tokens": 48}],
    rollout_processor=RemoteRolloutProcessor(poll_interval=0.2, timeout_seconds=90),
)
def drawn(row: EvaluationRow) -> EvaluationRow:
    text = row.last_assistant_message().content or ""
    row.evaluation_result = EvaluateResult(score=float("svg" in text), reason=text[:40])
    return row
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Installed by `npm ci`, which holds every package against its published digest."""
    with agent_server("ts", tmp_path_factory.mktemp("ts") / "server.log", free_port()) as running:
        yield running


def test_the_package_is_the_published_one() -> None:
    folder = SERVERS / "server_ts"
    installed = json.loads((folder / "node_modules" / "eval-protocol" / "package.json").read_text())
    assert installed["version"] == "0.1.13"
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]["node_modules/eval-protocol"]
    assert locked["version"] == "0.1.13"
    assert locked["integrity"].startswith("sha512-")


def test_the_published_python_client_drives_it(
    platform: Platform, environment: dict[str, str], server: Agent, tmp_path: Path
) -> None:
    (tmp_path / "evaluation.py").write_text(EVALUATION)
    lines = (EVALUATOR / "drawings_dataset.jsonl").read_text().splitlines()[:ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    ended = platform.run(
        PUBLISHED / "python", "-m", "pytest", "-s", "evaluation.py", "--ep-no-upload", "--ep-output-dir", "out",
        cwd=tmp_path, env={**environment, **server.setting},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    rows = read(tmp_path / "out")
    hold_against_the_record(platform, rows)
    for row in rows:
        assert f"Found status for rollout {row['execution_metadata']['rollout_id']} with code 100" in ended.stdout


def test_our_client_drives_it(platform: Platform, server: Agent, tmp_path: Path) -> None:
    settings = {**server.setting, "EP_OUTPUT_DIR": str(tmp_path), "EP_MAX_DATASET_ROWS": str(ROWS)}
    ended = platform.run("python", "evaluation.py", cwd=EVALUATOR, env=settings)
    assert ended.returncode == 0, ended.stdout
    assert f"{ROWS} valid, 0 invalid" in ended.stdout
    hold_against_the_record(platform, read(tmp_path))


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of an evaluation's results."""
    files = [file for file in folder.rglob("*.jsonl") if file.parent.name == "experiment_results"]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def hold_against_the_record(platform: Platform, rows: list[dict[str, Any]]) -> None:
    """Each row is what the gateway recorded, and what npm's logger posted is there."""
    assert len(rows) == ROWS
    recorded = calls_by_rollout(platform.data_dir / "completions.db")
    for row in rows:
        assert row["rollout_status"]["code"] == 100
        rollout = row["execution_metadata"]["rollout_id"]
        [trace] = platform.get(f"/litellm-gateway/traces?tags=rollout_id:{rollout}")["traces"]
        assert trace["tags"].count(f"row_id:{row['input_metadata']['row_id']}") == 1
        spoken = [*trace["input"]["messages"], trace["output"]]
        assert [(one["role"], one["content"]) for one in row["messages"]] == [
            (one["role"], one["content"]) for one in spoken
        ]
        [call] = recorded[rollout]
        assert len(call.sampled_ids) == len(call.logprobs) == trace["metadata"]["usage"]["completion_tokens"] > 0
        entries = platform.get(f"/litellm-gateway/logs?tags=rollout_id:{rollout}")["entries"]
        by_npm = {entry["message"] for entry in entries if entry["extras"].get("logger_name") == f"svg_agent.{rollout}"}
        assert {f"Rollout {rollout} completed", f"Drawing row {row['input_metadata']['row_id']}"} <= by_npm
