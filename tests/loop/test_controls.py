"""Controls: the trainer goes where the score points, and nowhere without one. The bundled model on the arithmetic example, whole jobs.

One evaluator scores by what its row asks for: wrong answers, short answers, or chance. It reports correctness and length as metrics
besides, and those are judged: mean of the job's last four chunks minus that of its first four, with a 95 % interval over rows. That a
constant score or a learning rate of 0 leaves the adapter bitwise unchanged is tested for every loss in tests/training/test_rft.py,
and that a whole job with a constant score ends early in test_story.py. The long forms with held-out problems: `make learning-curves`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import pytest

from tests.loop import projects
from tests.loop.platform import REPO, Platform
from tests.loop.test_story import create_rft

CHUNKS, CHUNK, N = 10, 10, 8

SOURCE = """
import re
import zlib
from pathlib import Path

from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test


def number(text):
    found = re.search(r"<answer>[^<]*?([0-9]+)", text or "")
    return found and found.group(1)


@evaluation_test(
    input_dataset=[str(Path(__file__).parent / "rows.jsonl")],
    completion_params=[{"model": "MODEL", "temperature": 1.0, "max_tokens": 80}],
    rollout_processor=SingleTurnRolloutProcessor(),
    mode="pointwise",
)
def controlled(row: EvaluationRow) -> EvaluationRow:
    text = row.last_assistant_message().content or ""
    correct = float(number(text) == number(row.ground_truth))
    length = min(1.0, len(text) / 200)
    drawn = zlib.crc32(row.execution_metadata.rollout_id.encode()) % 2
    wish = row.input_metadata.dataset_info["control"]
    score = {"inverted": 1 - correct, "brevity": 1 - length, "shuffled": float(drawn)}[wish]
    metrics = {"correct": correct, "length": length}
    row.evaluation_result = EvaluateResult(
        score=score,
        reason=wish,
        metrics={name: MetricResult(score=value, reason="") for name, value in metrics.items()},
    )
    return row
""".replace("MODEL", projects.BASE)


def rows(control: str) -> list[dict[str, Any]]:
    lines = (REPO / "examples/gsm8k/gsm8k_sample.jsonl").read_text().splitlines()[: CHUNKS * CHUNK]
    return [{**json.loads(line), "input_metadata": {"dataset_info": {"control": control}}} for line in lines]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One evaluator for all three: it is built once."""
    return projects.write(tmp_path_factory.mktemp("controls") / "project", source=SOURCE, dataset=rows("inverted"))


def train(platform: Platform, project: Path, control: str) -> list[dict[str, Any]]:
    """Run the job; its training rollouts, in order."""
    data = project.parent / f"{control}.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows(control)))
    name, _ = create_rft(
        platform, project, "--dataset", data, "--chunk-size", CHUNK, "--response-candidates-count", N, "--job-id", f"control-{control}",
        "--max-output-tokens", 80, "--learning-rate", "3e-3",
    )  # fmt: skip
    job = platform.wait(name, timeout=600)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert job["run"]["optimizer_steps"] >= 5  # a chunk whose scores have all become equal takes none
    lines = (platform.data_dir / "runs" / name.rsplit("/", 1)[-1] / "rollouts.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


def change(rollouts: list[dict[str, Any]], metric: str) -> tuple[float, float, float]:
    """(mean of the first four chunks, lower end, upper end): the 95 % interval of the last four's mean minus that, over rows."""
    parts = []
    for chunks in (range(4), range(CHUNKS - 4, CHUNKS)):
        by_row: dict[tuple[int, int], list[float]] = defaultdict(list)
        for record in rollouts:
            if record["chunk"] in chunks:
                by_row[record["chunk"], record["row_index"]].append(
                    record["row"]["evaluation_result"]["metrics"][metric]["score"]
                )
        assert len(by_row) == 4 * CHUNK
        parts.append([fmean(values) for values in by_row.values()])
    first, last = parts
    middle = fmean(last) - fmean(first)
    half = 1.96 * math.sqrt(variance(first) / len(first) + variance(last) / len(last))
    return fmean(first), middle - half, middle + half


def test_an_inverted_score_drives_accuracy_down(platform: Platform, project: Path):
    before, _, high = change(train(platform, project, "inverted"), "correct")
    assert before > 0.03  # there is something to lose
    assert high < 0


def test_a_brevity_score_shortens_answers(platform: Platform, project: Path):
    before, _, high = change(train(platform, project, "brevity"), "length")
    assert high < -0.2 * before


def test_shuffled_scores_lift_nothing(platform: Platform, project: Path):
    rollouts = train(platform, project, "shuffled")
    assert {record["score"] for record in rollouts} == {0.0, 1.0}
    _, low, _ = change(rollouts, "correct")
    assert low <= 0
