"""pytest as a user runs it: in a process of its own, on files in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eval_protocol.results import list_invocations

from tests.sdk.conftest import FakeModel

HEADER = """
from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.pytest import NoOpRolloutProcessor, SingleTurnRolloutProcessor, evaluation_test

def rows(*texts):
    return [EvaluationRow(messages=[Message(role="user", content=text)]) for text in texts]
"""
ECHO = """
def score(row):
    row.evaluation_result = EvaluateResult(score=float(row.messages[-1].text), reason="echo")
    return row
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("EP_RESULTS_DB", str(tmp_path / "results.db"))
    monkeypatch.setenv("EP_LOCAL_UI_PORT", "9")
    return folder


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_functions_are_collected_whatever_their_name(project: Path, model: FakeModel):
    (project / "evaluation.py").write_text(
        f"""{HEADER}{ECHO}
@evaluation_test(
    input_rows=[rows("0", "1")],
    completion_params=[{{"model": "m", "api_base": "{model.url}", "api_key": "sk-secret"}}],
    passed_threshold=0.5,
)
async def any_name(row: EvaluationRow) -> EvaluationRow:
    return score(row)

def test_ordinary():
    pass
"""
    )
    (project / "other.py").write_text("from evaluation import any_name\n")
    done = pytest_in(project, "evaluation.py", "other.py", "-vs", f"--junitxml={project}/junit.xml")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert "evaluation.py::any_name[m] " in done.stdout
    assert done.stdout.count("Tip: run 'ep logs' in another terminal") == 1
    assert "Score 0.500 (95 % interval" in done.stdout
    lines = done.stdout.splitlines()
    box = lines.index("📊 LOCAL UI EVALUATION RESULTS")
    assert lines[box - 1] == lines[box + 1] == "=" * 80
    assert "sk-secret" not in done.stdout + done.stderr + (project / "junit.xml").read_text()
    [invocation] = list_invocations(Path(os.environ["EP_RESULTS_DB"]))
    assert invocation.invocation_id in lines[box + 2]
    assert invocation.rollouts == 2


def test_a_missed_threshold_fails_with_its_reason_and_no_traceback(project: Path):
    (project / "evaluation.py").write_text(
        f"""{HEADER}
@evaluation_test(input_rows=[rows("a")], rollout_processor=NoOpRolloutProcessor(), passed_threshold=1)
def low(row: EvaluationRow) -> EvaluationRow:
    return 0.5

@evaluation_test(input_rows=[rows("a")], rollout_processor=NoOpRolloutProcessor())
def broken(row: EvaluationRow) -> EvaluationRow:
    raise ValueError("my mistake")

@evaluation_test(input_dataset=["nowhere.jsonl"], rollout_processor=NoOpRolloutProcessor())
def empty(row: EvaluationRow) -> EvaluationRow:
    return 1
"""
    )
    done = pytest_in(project, "evaluation.py")
    assert done.returncode == 1
    assert "Aggregated score 0.500 is below the threshold 1." in done.stdout
    assert "No valid scores: all 1 rollouts failed" in done.stdout
    assert "ValueError: my mistake (evaluation.py:" in done.stdout
    assert "There is no dataset nowhere.jsonl" in done.stdout
    assert "runner.py" not in done.stdout
    lowered = pytest_in(project, "evaluation.py::low", "--ep-success-threshold", "0.4")
    assert lowered.returncode == 0, lowered.stdout


def test_options_reach_the_run(project: Path, model: FakeModel):
    (project / "evaluation.py").write_text(
        f"""{HEADER}{ECHO}
@evaluation_test(input_rows=[rows("0", "1", "1")], completion_params=[{{"model": "ignored"}}])
def echo(row: EvaluationRow) -> EvaluationRow:
    return score(row)
"""
    )
    (project / "rows.jsonl").write_text(
        "".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in ("1", "1", "0"))
    )
    params = json.dumps({"model": "given", "api_base": model.url, "temperature": 1})
    done = pytest_in(
        project, "evaluation.py", "--ep-jsonl-path", "rows.jsonl", "--ep-max-rows", "2", "--ep-num-runs", "3",
        "--ep-completion-params", params, "--ep-input-param", "temperature=0.5", "--ep-reasoning-effort", "low",
        "--ep-summary-json", "summary.json", "--ep-output-dir", "out", "--ep-max-concurrent-rollouts", "1",
        "--ep-no-upload", "--ep-print-summary", "--ep-se-threshold", "0.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert len(model.seen) == 6
    assert model.busiest == 1
    assert model.seen[0].body["model"] == "given"
    assert model.seen[0].body["temperature"] == 0.5
    assert model.seen[0].body["reasoning_effort"] == "low"
    summary = json.loads((project / "summary.json").read_text())
    assert (summary["suite"], summary["num_runs"], summary["rows"], summary["agg_score"]) == ("echo", 3, 2, 1.0)
    [exported] = (project / "out" / "experiment_results").iterdir()
    assert len(exported.read_text().splitlines()) == 6
    assert "EP Summary" in done.stderr


def test_marks_and_wrong_options(project: Path):
    (project / "evaluation.py").write_text(
        f"""{HEADER}
import pytest

@pytest.mark.skip(reason="later")
@evaluation_test(input_rows=[rows("a")], rollout_processor=NoOpRolloutProcessor())
def skipped(row: EvaluationRow) -> EvaluationRow:
    return 0.5

@pytest.mark.parametrize("completion_params", [{{"model": "a"}}, {{"model": "b"}}])
@evaluation_test(input_rows=[rows("a")], rollout_processor=NoOpRolloutProcessor())
def both(row: EvaluationRow) -> EvaluationRow:
    return 1.0
"""
    )
    done = pytest_in(project, "evaluation.py", "-v")
    assert "skipped SKIPPED (later)" in done.stdout
    assert "both[a] PASSED" in done.stdout
    assert "both[b] PASSED" in done.stdout
    assert "2 passed, 1 skipped" in done.stdout
    wrong = pytest_in(project, "evaluation.py", "--ep-max-rows", "few")
    assert wrong.returncode == 4
    assert "--ep-max-rows few cannot be used" in wrong.stderr + wrong.stdout
    assert "EP_MAX_DATASET_ROWS" not in wrong.stderr + wrong.stdout


def test_a_decorator_that_cannot_work_is_a_collection_error(project: Path):
    (project / "evaluation.py").write_text(
        f"""{HEADER}
@evaluation_test(input_rows=[rows("a")], mode="groupwise")
def grouped(rows):
    return rows
"""
    )
    done = pytest_in(project, "evaluation.py")
    assert done.returncode == 2
    assert "mode='groupwise' is not built yet" in done.stdout
