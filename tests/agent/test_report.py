"""The final report: everything that is in the document is in it, nothing else; its pictures are whole SVG files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tunesmith.agent.document import Comparison, Deployed, Document, Estimate, Range, Run, Score
from tunesmith.agent.figures import Curve, curves
from tunesmith.agent.inspection import inspect
from tunesmith.agent.labels import classify
from tunesmith.agent.plan import Candidate, Evaluation, EvaluationPath, Grid, GridPoint, Method, Plan
from tunesmith.agent.report import figures, report
from tunesmith.agent.report_facts import DatasetFacts, ReportFacts
from tunesmith.agent.scoreboard import Measured, compare_held_out, judge

BASE = "accounts/tunesmith/models/tiny-math-v1"
ACCOUNT = "accounts/local"


def spent(seconds: float, **changes) -> Estimate:
    exactly = Range(low=seconds, high=seconds)
    phases = {"sweep": exactly, "final_run": exactly}
    values = {"training_tokens": 1000, "inference_tokens": 0, "by_phase": phases, **changes}
    return Estimate(training_seconds=exactly, inference_seconds=exactly, total_seconds=exactly, **values)


METRICS = {
    "candidate 1": [{"step": step, "loss": 2.0 / (1 + step)} for step in range(5)] + [{"step": 4, "eval_loss": 0.7}],
    "candidate 2": [{"step": 0, "eval_loss": 2.0}, {"step": 4, "eval_loss": float("nan")}],
    "final run": [{"step": 9, "loss": 0.25}],
}
FACTS = ReportFacts(
    session=f"{ACCOUNT}/sessions/s1",
    instruction="Run SFT on my | data",
    started="2026-11-22T10:00:00Z",
    ended="2026-11-22T10:05:00Z",
    actual=spent(100.0),
    datasets=[DatasetFacts("report", f"{ACCOUNT}/datasets/ds-s1-report", 40, "ab" * 32)],
    metrics=METRICS,
    versions={"tunesmith": "0.1.0"},
    notes=["40 rows report."],
)


@pytest.fixture
def document() -> Document:
    plan = Plan(
        method=Method.SFT,
        dataset=f"{ACCOUNT}/datasets/mine",
        base_models=[BASE],
        grid=Grid(points=[GridPoint(lora_rank=8, learning_rate=1e-3), GridPoint(lora_rank=16, learning_rate=2e-3)]),
        epochs=2,
        parallel=6,
        evaluation=Evaluation(path=EvaluationPath.GENERATED),
        final_run=True,
        deploy=True,
    )
    tried = [
        Measured(
            Candidate(base_model=BASE, lora_rank=rank, learning_rate=1e-3),
            scores=scores,
            run=Run(job=f"{ACCOUNT}/supervisedFineTuningJobs/sft-s1-c{number}", model="m", seconds=10, tokens=100),
        )
        for number, (rank, scores) in enumerate([(8, [0.0, 1.0] * 15), (16, [1.0] * 30)], start=1)
    ]
    board = judge([Measured.of_base(BASE, scores=[0.0] * 28 + [1.0, None])], tried, "score")
    rows = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]} for n in range(6)
    ]
    made = Document(
        approved_plan=plan,
        understood=["I train with SFT."],
        inspection={plan.dataset or "": inspect(rows).model_dump(mode="json")},
        evaluator=f"{ACCOUNT}/evaluators/agent-s1",
        generated={"evaluation.py": "def evaluate(row):\n    '''```'''\n", "validation": "Gold answers score 1.000."},
        estimate=spent(0.0, basis="a short measurement").model_copy(
            update={"total_seconds": Range(low=50, high=80), "training_seconds": Range(low=50, high=200)}
        ),
        candidates=board.results,
        winner=board.winner,
        reason=board.reason,
        final=Run(job=f"{ACCOUNT}/supervisedFineTuningJobs/sft-s1-final", model=f"{ACCOUNT}/models/sft-s1-final", state="JOB_STATE_COMPLETED", tokens=1234, seconds=12),
        held_out=compare_held_out("score", [0.0] * 40, [1.0] * 30 + [0.0] * 10, base_temperature=0.7),
        deployed=Deployed(model="m", deployment="d", endpoint="http://127.0.0.1:7777/v1", snippet="print('hello')\n"),
    )  # fmt: skip
    made.figures = figures(made, METRICS)
    return made


def test_the_report_has_everything(document: Document):
    text = report(document, FACTS)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "How To Access The Final Model",
        "The plan, as approved",
        "Data",
        "Scoreboard",
        "Winner",
        "Final run",
        "Held-out evaluation",
        "Cost Summary",
        "Provenance",
        "How to get each number again",
    ]
    assert "```python\nprint('hello')\n```" in text
    assert "````python\ndef evaluate(row):" in text  # the evaluator's own fence does not end the block
    assert document.held_out is not None
    assert text.count(document.held_out.statement) == 2
    assert "is better than its base model: its score is higher by 0.7500" in text
    assert "temperature 0.7, its best of 0, 0.3, 0.7 and 1" in text
    assert "Candidate 2 (tiny-math-v1, rank 16" in text
    assert "| 2* |" in text
    assert "Gold answers score 1.000." in text
    assert f"| report | `{ACCOUNT}/datasets/ds-s1-report` | 40 | `{'ab' * 32}` |" in text
    assert "| Last training loss | 0.2500 at step 9 |" in text
    assert "| Total, time | 50 s to 1 min 20 s | 1 min 40 s | +20 s |" in text
    assert "| Training, time | 50 s to 3 min 20 s | 1 min 40 s | within |" in text
    assert "tunesmith sftj metrics sft-s1-c2" in text
    assert "tunesmith dataset download ds-s1-report" in text


def test_every_table_is_whole_and_every_picture_is_there(document: Document):
    text = report(document, FACTS)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1, block
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(shown) == sorted(document.figures) == [
        "evaluation_loss.svg", "held_out.svg", "scoreboard.svg", "training_loss.svg",
    ]  # fmt: skip
    for name, picture in document.figures.items():
        root = ElementTree.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert "nan" not in picture


def test_the_plan_of_the_report_can_be_run_again(document: Document):
    text = report(document, FACTS)
    plan = re.search(r"```json\n(.*?)\n```", text, re.S)
    assert plan is not None
    assert Plan.model_validate(json.loads(plan.group(1))) == document.approved_plan


def test_a_session_that_stopped_early_claims_nothing():
    document = Document(message="Stopped at the promotion gate.")
    document.figures = figures(document, {})
    text = report(document, ReportFacts("accounts/local/sessions/s2", "", "t0", "t1", spent(1.0)))
    assert document.figures == {}
    for sentence in (
        "There is no final model.",
        "No plan was approved.",
        "No candidate was trained.",
        "No final model was evaluated.",
    ):
        assert sentence in text
    assert "better" not in text
    assert "Stopped at the promotion gate." in text


def test_a_classification_is_shown_label_by_label(document: Document):
    assert document.held_out is not None
    said = classify([("spam", "spam"), ("spam", "ham"), ("ham", "ham")])
    by_temperature = {"0": 0.25, "1": 0.5}
    document.held_out.details = {"tuned": said.dump(), "baseByTemperature": by_temperature, "preferenceAccuracy": 0.755}
    text = report(document, FACTS)
    assert "by temperature: 0: 0.2500, 1: 0.5000." in text
    assert "in 75.5% of the held-out pairs" in text
    assert "### Final model, label by label" in text
    assert said.table() in text


def test_what_was_not_shown_is_said_to_be_not_shown(document: Document):
    same = Score(mean=0.5, low=0.4, high=0.6, rows=40)
    document.held_out = Comparison(
        metric="score", base=same, tuned=same, difference=Score(mean=0, low=-0.1, high=0.1, rows=40), p_value=1.0,
        statement=compare_held_out("score", [1.0, 0.0] * 20, [1.0, 0.0] * 20).statement,
    )  # fmt: skip
    assert "**No difference from the base model was shown" in report(document, FACTS)


def test_what_the_data_says_cannot_act_on_a_reader(document: Document):
    label = "<img src=x onerror=alert(1)>"
    rows = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": said}]}
        for n, said in enumerate([label, "[see](https://example.org/x)"] * 30)
    ]
    found = inspect(rows, labels_wanted=True)
    document.inspection = {f"{ACCOUNT}/datasets/mine": found.model_dump(mode="json")}
    document.candidates[-1].failed = f"said {label}"
    assert document.held_out
    document.held_out.details = {"base": classify([(label, label)]).dump(), "tuned": classify([(label, None)]).dump()}
    text = re.sub(r"^(```+).*?^\1$", "", report(document, FACTS), flags=re.DOTALL | re.MULTILINE)
    assert "img src=x" in text
    assert "<img" not in text
    assert "](https://example.org" not in text


def test_a_curve_of_one_value_or_none_is_still_a_picture():
    for lines in ([], [Curve("a < b & c", [(1.0, 5.0)])], [Curve("flat", [(0.0, 0.0), (9.0, 0.0)])]):
        root = ElementTree.fromstring(curves("T", "x", "y", lines))
        assert root.get("viewBox") == "0 0 720 380"


def test_the_held_out_comparison_comes_with_its_command(document: Document):
    scored = ["ds-s1-scored-report-base-t3", "ds-s1-scored-report-base-t7", "ds-s1-scored-report-final"]
    text = report(document, replace(FACTS, scored=scored))
    assert "tunesmith dataset download ds-s1-scored-report-base-t3\n" in text
    assert "session compare ds-s1-scored-report-base-t7.jsonl ds-s1-scored-report-final.jsonl" in text
    assert "session compare" not in report(document, FACTS)
