"""The GSM8K example: its scoring, and `python evaluation.py` against a server."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.models import EvaluationRow

from tests.sdk.conftest import FakeModel, completion

EXAMPLE = Path(__file__).parents[2] / "examples" / "gsm8k" / "evaluation.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("gsm8k_evaluation", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("<answer>72</answer>", "<answer>72</answer>", 1),
        ("<think>3+4</think>\n<answer>\n72\n</answer>", "so 9 <answer>\n72\n</answer>", 1),
        ("<answer>it is 72 clips, not 5</answer>", "<answer>72</answer>", 1),
        ("<answer>71</answer>", "<answer>72</answer>", 0),
        ("<answer>720</answer>", "<answer>72</answer>", 0),
        ("The answer is 72", "<answer>72</answer>", 0),
        ("<answer>none</answer> 72", "<answer>72</answer>", 0),
        ("", "<answer>72</answer>", 0),
    ],
)
async def test_scores(example: Any, answer: str, truth: str, score: float):
    row = EvaluationRow.model_validate({"messages": [{"role": "assistant", "content": answer}], "ground_truth": truth})
    done = await example.gsm8k_example(row)
    assert done.evaluation_result.score == score
    assert done.evaluation_result.is_score_valid
    assert done.evaluation_result.metrics["exact_match"].score == score


async def test_a_row_without_a_usable_truth_is_invalid(example: Any):
    row = EvaluationRow.model_validate({"messages": [{"role": "assistant", "content": "<answer>1</answer>"}]})
    assert not (await example.gsm8k_example(row)).evaluation_result.is_score_valid


def test_it_runs_as_a_program(model: FakeModel, profile: str, tmp_path: Path):
    """Right for every second row; the gold answers stay at home; then a threshold that is missed."""

    def answer(seen: Any) -> Any:
        assert seen.body["messages"][-1]["role"] == "user"
        number = gold[seen.body["messages"][-1]["content"]]
        return 200, {}, completion(f"<answer>{number if next(turn) % 2 else 'unsure'}</answer>")

    gold, turn = {}, itertools.count()
    for line in (EXAMPLE.parent / "gsm8k_sample.jsonl").read_text().splitlines():
        record = json.loads(line)
        gold[record["messages"][-2]["content"]] = record["ground_truth"].split("<answer>")[1].split("<")[0]
    model.answer = answer
    env = {**os.environ, "EP_LOCAL_UI_PORT": "9", "EP_MAX_DATASET_ROWS": "10", "EP_INVOCATION_ID": "my-run"}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLE)], cwd=tmp_path, env={**env, **more}, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "Score 0.500 (95 % interval" in done.stdout
    assert "10 rows × 1 run · 10 valid, 0 invalid" in done.stdout
    assert "📊 Invocation my-run:" in done.stdout
    assert (Path(env["HOME"]) / ".tunesmith" / "results.db").exists()
    assert not (Path(env["HOME"]) / ".eval_protocol").exists()
    assert len(model.seen) == 10
    assert all(seen.headers["Authorization"] == f"Bearer {profile}" for seen in model.seen)
    assert all("/invocation_id/my-run/" in seen.path for seen in model.seen)
    assert model.seen[0].body["model"] == "accounts/tunesmith/models/tiny-math-v1"
    failed = run(EP_PASSED_THRESHOLD="0.9")
    assert failed.returncode == 1
    assert "Aggregated score 0.500 is below the threshold 0.9." in failed.stdout
