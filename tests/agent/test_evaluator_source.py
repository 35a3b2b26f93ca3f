"""Generated evaluators, run for real: gold answers score 1, answers of other rows 0, whatever the data holds."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.models import EvaluationRow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tunesmith.agent.answers import AnswerKind, Answers, recognise
from tunesmith.agent.evaluator_source import ENTRY_POINT, FILE, FUNCTION, SPEC, question, shuffle, validate, write
from tunesmith.agent.python_text import literal, quoted
from tunesmith.agent.rows import with_gold

from tests.agent.datasets import Row, datasets, row

ROOT = Path(__file__).parents[2]
LOADED = iter(range(10**9))


def load(folder: Path, answers: Answers) -> Callable[[Row], EvaluationRow]:
    """Write the evaluator and import it; scores one row."""
    folder.mkdir(exist_ok=True)
    for name, text in write(answers).items():
        (folder / name).write_text(text)
    spec = importlib.util.spec_from_file_location(f"generated_{next(LOADED)}", folder / FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda row: asyncio.run(getattr(module, FUNCTION)(EvaluationRow.model_validate(row)))


def scores(evaluate: Callable[[Row], EvaluationRow], rows: list[Row]) -> list[float | None]:
    results = [evaluate(row).evaluation_result for row in rows]
    assert all(result is not None for result in results)
    return [result.score if result.is_score_valid else None for result in results if result is not None]


def verdict_on(folder: Path, rows: list[Row], **kinds: Any) -> Any:
    answers = recognise(rows, **kinds)
    golden = [with_gold(row) for row in rows]
    evaluate = load(folder, answers)
    swapped, chance = shuffle(golden, answers)
    return validate(scores(evaluate, golden), scores(evaluate, swapped), chance)


@pytest.mark.parametrize("name", datasets())
def test_gold_scores_1_and_other_rows_answers_0(name: str, tmp_path: Path) -> None:
    verdict = verdict_on(tmp_path, datasets()[name])
    assert verdict.ok, verdict.reason
    assert (verdict.gold, verdict.shuffled) == (1.0, 0.0)


def test_they_are_python_that_passes_our_own_checks(tmp_path: Path) -> None:
    for name, rows in datasets().items():
        answers = recognise(rows)
        files = write(answers)
        assert files == write(answers)
        assert files[FILE].endswith("\n")
        assert "tunesmith." not in files[FILE]
        assert answers.examples[0].text in files[SPEC]
        (tmp_path / f"{name.replace(' ', '_')}.py").write_text(files[FILE])
    for command in (["check"], ["format", "--check"]):
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
            str(tmp_path),
        ]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_host_takes_it(tmp_path: Path) -> None:
    load(tmp_path, recognise(datasets()["json"]))
    command = [sys.executable, "-m", "eval_protocol.host", "--entry", ENTRY_POINT, "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["name"] == FUNCTION


@pytest.mark.parametrize(
    ("name", "said", "score"),
    [
        ("number", "1234", 1.0),
        ("number", "It is 1234 in all.", 1.0),
        ("number", "1234 or 1235", 0.0),
        ("number", "", 0.0),
        ("number in tags", "<answer>1</answer>", 1.0),
        ("number in tags", "1", 0.0),
        ("number in tags", "<answer>2</answer> no, <answer>1 apple</answer>", 1.0),
        ("number behind hashes", "3", 0.0),
        ("json", '{"city": "A", "tags": ["ä", {"deep": [0, null]}], "name": "Zo\\u00eb 0", "age": 0.0}', 1.0),
        ("json", '{"name": "Zoë 0", "age": false, "tags": ["ä", {"deep": [0, null]}], "city": "A"}', 0.0),
        ("json", "[" * 2000, 0.0),
        ("json", "not JSON", 0.0),
        ("label", "  POSITIVE. ", 1.0),
        ("label", "This is positive, I think.", 1.0),
        ("label", "positive or negative", 0.0),
        ("label in tags", "<answer>a</answer>", 1.0),
        ("exact", "Paris", 1.0),
        ("exact", "paris", 0.0),
    ],
)
def test_what_a_model_may_say(name: str, said: str, score: float, tmp_path: Path) -> None:
    rows = datasets()[name]
    evaluate = load(tmp_path, recognise(rows))
    first = with_gold(rows[0])
    result = evaluate({**first, "messages": [first["messages"][0], {"role": "assistant", "content": said}]})
    assert result.evaluation_result is not None
    assert (result.evaluation_result.score, result.evaluation_result.is_score_valid) == (score, True)


def test_tool_calls_are_compared_by_name_and_arguments(tmp_path: Path) -> None:
    rows = [with_gold(each) for each in datasets()["tool_calls"]]
    evaluate = load(tmp_path, recognise(rows))

    def says(name: str, arguments: str) -> Row:
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
        return {
            **rows[1],
            "messages": [rows[1]["messages"][0], {"role": "assistant", "content": "", "tool_calls": [call]}],
        }

    said = [says("add", '{"b":"x","a":1.0}'), says("sub", '{"a":1,"b":"x"}'), says("add", '{"a":1}'), says("add", "{")]
    assert scores(evaluate, [*said, row(1, "text", ground_truth=rows[1]["ground_truth"])]) == [1, 0, 0, 0, 0]


def test_json_says_which_share_of_its_fields_is_right_and_what_is_wrong(tmp_path: Path) -> None:
    rows = datasets()["json"]
    evaluate = load(tmp_path, recognise(rows))
    result = evaluate(row(0, '{"name": "Zoë 0", "age": "0"}', ground_truth=rows[0]["ground_truth"])).evaluation_result
    assert result is not None
    assert (result.score, result.metrics["fields"].score, result.metrics["schema"].score) == (0.0, 0.25, 0.0)
    assert "lacks tags" in result.metrics["schema"].reason


def test_a_row_without_a_gold_answer_is_invalid_and_not_0(tmp_path: Path) -> None:
    evaluate = load(tmp_path, recognise(datasets()["number"]))
    assert scores(evaluate, [row(1, "5", ground_truth="I forgot"), row(1, "5")]) == [None, None]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=15, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(texts, values, min_size=1, max_size=3), min_size=6, max_size=10), st.randoms())
def test_any_json_scores_1_with_its_keys_in_any_order(
    tmp_path_factory: Any, objects: list[dict], order: random.Random
) -> None:
    rows = [
        row(i, json.dumps(dict(order.sample(list(value.items()), len(value)))), ground_truth=value)
        for i, value in enumerate(objects)
    ]
    answers = recognise(rows)
    if answers.kind is AnswerKind.NONE:
        assert "same answer" in answers.reason
        return
    assert answers.kind is AnswerKind.JSON
    evaluate = load(tmp_path_factory.mktemp("generated"), answers)
    assert scores(evaluate, rows) == [1.0] * len(rows)


@settings(deadline=None, max_examples=15, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(-(10**12), 10**12), min_size=6, max_size=12, unique=True),
    st.sampled_from(["{:,}", "{}", "${:,}", "{:,} km", "{}.00"]),
)
def test_any_numbers_score_1_however_they_are_written(tmp_path_factory: Any, numbers: list[int], form: str) -> None:
    rows = [row(i, form.format(value), ground_truth=value) for i, value in enumerate(numbers)]
    verdict = verdict_on(tmp_path_factory.mktemp("generated"), rows)
    assert verdict.ok, verdict.reason


@settings(deadline=None, max_examples=15, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20), min_size=2, max_size=6
    )
)
def test_any_labels_survive_being_written_into_python(tmp_path_factory: Any, labels: list[str]) -> None:
    rows = [row(f"{i} {n}", label) for i, label in enumerate(labels) for n in range(10)]
    answers = recognise(rows, labels_wanted=True)
    if answers.kind is not AnswerKind.LABEL:
        return
    verdict = verdict_on(tmp_path_factory.mktemp("generated"), rows, labels_wanted=True)
    assert verdict.ok or "wrong answer" in verdict.reason, verdict.reason


@given(
    st.recursive(
        st.one_of(st.text(), st.integers(), st.booleans(), st.none()),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=5,
    )
)
@settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_literals_are_what_they_spell(value: Any) -> None:
    assert eval(literal(value)) == value  # the very point: what stands in the file is the value


def test_literals_are_written_as_ruff_writes_them() -> None:
    assert [quoted(text) for text in ("a", 'a"b', "a'b", 'a"\'"b', "\n\\")] == [
        '"a"',
        "'a\"b'",
        '"a\'b"',
        "'a\"\\'\"b'",
        '"\\n\\\\"',
    ]


def test_labels_that_collide_by_chance_do_not_count(tmp_path: Path) -> None:
    rows = [with_gold(row(i, "often" if i % 10 else "rare")) for i in range(50)]
    answers = recognise(rows)
    swapped, chance = shuffle(rows, answers)
    assert sum(chance) == 40, "each rare answer goes to an often row, and each rare row gets an often one"
    evaluate = load(tmp_path, answers)
    assert scores(evaluate, swapped) == chance
    verdict = validate(scores(evaluate, rows), scores(evaluate, swapped), chance)
    assert verdict.ok
    assert "40 of 50 are the same answer by chance" in verdict.reason


@pytest.mark.parametrize(
    ("gold", "shuffled", "reason"),
    [
        ([1.0, 0.5], [0.0, 0.0], "1 of 2 gold answers do not score 1, the first that of row 2"),
        ([1.0, None], [0.0, 0.0], "the first that of row 2"),
        ([1.0, 1.0], [0.0, 1.0], "Answers of other rows score more than 0.02"),
        ([1.0], [None], "cannot be seen to tell right from wrong"),
        ([], [], "no rows"),
    ],
)
def test_an_evaluator_that_cannot_tell_right_from_wrong_is_refused(
    gold: list[float | None], shuffled: list[float | None], reason: str
) -> None:
    verdict = validate(gold, shuffled)
    assert not verdict.ok
    assert reason in verdict.reason


def test_without_checkable_answers_a_question_is_asked() -> None:
    answers = recognise([row(i, f"Dear friend {i}, thank you for all that you wrote to me.") for i in range(20)])
    with pytest.raises(ValueError, match="free text"):
        write(answers)
    asked = question(answers)
    assert asked.field == "evaluation.path"
    assert "Dear friend 0" in asked.text
    assert asked.choices == ["Use validation loss for evaluation."]
