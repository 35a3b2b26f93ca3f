"""Filters, paths, lists and fields over a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.errors import UsageError
from eval_protocol.models import EvalMetadata, EvaluateResult, EvaluationRow, Message, MetricResult, Status
from eval_protocol.results import ResultsStore, filters
from eval_protocol.results.download import export
from eval_protocol.results.fields import fields
from eval_protocol.results.listing import page_of, whole_row
from eval_protocol.results.paths import parse
from eval_protocol.results.schema import connect

NOON = datetime(2026, 3, 4, 12, 0).astimezone()
TYPED = {"count": 7, "ratio": 0.5, "flag": True, "off": False, "when": "2026-03-04T10:00:00Z", "numeral": "42"}


def made(number: int, **changes: Any) -> EvaluationRow:
    """Rollout number n: score n/10, one day after the last, odd ones by model b."""
    row = EvaluationRow(
        messages=[
            Message(role="user", content=f"Question {number}"),
            Message(role="assistant", content="Answer\n<b>x</b>"),
        ],
        created_at=NOON + timedelta(days=number),
        rollout_status=Status.rollout_finished(),
        eval_metadata=EvalMetadata(name="test_it", status=Status.eval_finished()),
        evaluation_result=EvaluateResult(
            score=number / 10, reason=f"reason {number}", metrics={"m": MetricResult(score=1, reason="=1+1")}
        ),
    )
    ids = row.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id, ids.run_id = f"r{number}", "inv", "exp", "run"
    row.input_metadata.row_id = f"row{number}"
    row.input_metadata.completion_params = {"model": "ab"[number % 2]}
    row.input_metadata.dataset_info = {**TYPED, "odd key.": number, "100%_sure": "Yes", **changes}
    return row


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("store") / "results.db"
    with ResultsStore(path) as writer:
        for number in range(9):
            writer.log(made(number))
        bare = EvaluationRow(
            messages=[Message(role="user", content="no score")], created_at=NOON + timedelta(days=9, seconds=1)
        )
        bare.execution_metadata.rollout_id = "bare"
        bare.rollout_status = Status.rollout_error("boom")
        writer.log(bare)
    connection = connect(path)
    yield connection
    connection.close()


def matching(store: Any, *conditions: tuple[Any, ...], logic: str = "AND") -> set[str]:
    """Rollout ids that a group of (field, operator, value, type, value2) lets through."""
    names = ("field", "operator", "value", "type", "value2")
    group = {"logic": logic, "filters": [dict(zip(names, each, strict=False)) for each in conditions]}
    page = page_of(store, filters.read(json.dumps([group])), page_size=100)
    assert page.total == 10
    assert page.matching == len(page.rows)
    return {row["rolloutId"] for row in page.rows}


def some(*numbers: int) -> set[str]:
    return {f"r{number}" for number in numbers}


ALL = some(*range(9))
INFO = "$.input_metadata.dataset_info"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (("$.execution_metadata.invocation_id", "==", "inv", "text"), ALL),
        (("$.execution_metadata.invocation_id", "!=", "inv", "text"), {"bare"}),
        (("$.execution_metadata.rollout_id", "contains", "R1", "text"), some(1)),
        (("$.input_metadata.completion_params.model", "==", "b", "text"), some(1, 3, 5, 7)),
        (("$.input_metadata.completion_params.model", "!contains", "b", "text"), some(0, 2, 4, 6, 8) | {"bare"}),
        (("$.evaluation_result.score", ">", "0.65", "text"), some(7, 8)),
        (("$.evaluation_result.score", "<=", 0.1, "number"), some(0, 1)),
        (("$.evaluation_result.score", "==", "0.5", "text"), some(5)),
        (("$.evaluation_result.score", "!=", "0.5", "number"), (ALL | {"bare"}) - some(5)),
        (("$.evaluation_result.score", "between", "0.2", "number", "0.4"), some(2, 3, 4)),
        (("$.evaluation_result.is_score_valid", "==", "true", "text"), ALL),
        (("$.rollout_status.code", "==", "13", "text"), {"bare"}),
        (("$.rollout_status.message", "contains", "BOOM", "text"), {"bare"}),
        ((f"{INFO}.count", "==", "7", "text"), ALL),
        ((f"{INFO}.count", ">=", "7.5", "number"), set()),
        ((f"{INFO}.ratio", "==", "0.5", "text"), ALL),
        ((f"{INFO}.flag", "==", "true", "text"), ALL),
        ((f"{INFO}.flag", "!=", "true", "text"), {"bare"}),
        ((f"{INFO}.off", "contains", "als", "text"), ALL),
        ((f"{INFO}.numeral", ">", "41", "text"), ALL),
        ((f"{INFO}.numeral", "==", "42", "text"), ALL),
        ((f'{INFO}["odd key."]', "<", "2", "text"), some(0, 1)),
        ((f"{INFO}['odd key.']", "<", "2", "number"), some(0, 1)),
        ((f'{INFO}["100%_sure"]', "contains", "%", "text"), set()),
        ((f"{INFO}.when", "==", "2026-03-04", "date"), ALL),
        ((f"{INFO}.missing", "==", "x", "text"), set()),
        ((f"{INFO}.missing", "!=", "x", "text"), ALL | {"bare"}),
        (("$.messages[0].content", "contains", "question 3", "text"), some(3)),
        (("$.messages[1].content", "contains", "<B>", "text"), ALL),
        (("$.messages[99999].content", "==", "x", "text"), set()),
        (("$.created_at", "==", "2026-03-06", "date"), some(2)),
        (("$.created_at", "!=", "2026-03-06", "date"), (ALL | {"bare"}) - some(2)),
        (("$.created_at", ">=", "2026-03-10", "date"), some(6, 7, 8) | {"bare"}),
        (("$.created_at", "<=", "2026-03-06", "date"), some(0, 1, 2)),
        (("$.created_at", ">", "2026-03-06", "date"), some(3, 4, 5, 6, 7, 8) | {"bare"}),
        (("$.created_at", "<", "2026-03-06", "date"), some(0, 1)),
        (("$.created_at", "between", "2026-03-05", "date-range", "2026-03-07"), some(1, 2, 3)),
        (("$.created_at", "<=", "2026-03-05T12:00:00", "date"), some(0, 1)),
        (("", "contains", "x", "text"), ALL | {"bare"}),
        (("$.eval_metadata.name", "contains", "", "text"), ALL | {"bare"}),
        (("$.eval_metadata.name", "==", "' OR 1=1 --", "text"), set()),
        (('$["x) OR 1=1 --"]', "==", "1", "text"), set()),
    ],
)  # fmt: skip
def test_a_condition_lets_through_what_it_says(store: Any, condition: tuple[Any, ...], expected: set[str]):
    assert matching(store, condition) == expected


def test_groups_are_joined_by_and_and_each_has_its_own_logic(store: Any):
    low = ("$.evaluation_result.score", "<", "0.2", "number")
    high = ("$.evaluation_result.score", ">", "0.6", "number")
    assert matching(store, low, high) == set()
    assert matching(store, low, high, logic="OR") == some(0, 1, 7, 8)
    model = {"field": "$.input_metadata.completion_params.model", "operator": "==", "value": "b", "type": "text"}
    either = [
        {"field": "$.evaluation_result.score", "operator": "<", "value": "0.2"},
        {"field": "$.evaluation_result.score", "operator": ">", "value": "0.6"},
    ]
    groups = [
        {"logic": "OR", "filters": either},
        {"logic": "AND", "filters": [model]},
        {"logic": "AND", "filters": []},
    ]
    found = page_of(store, filters.read(json.dumps(groups)))
    assert {row["rolloutId"] for row in found.rows} == some(1, 7)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not valid JSON"),
        ("{}", "no list of groups"),
        ("[1]", "filterConfig cannot be used"),
        ('[{"logic": "XOR"}]', "logic"),
        ('[{"filters": [{"field": "$.a", "operator": "~", "value": "x"}]}]', "operator"),
        ('[{"filters": [{"field": "$.a", "operator": "==", "value": "x", "type": "colour"}]}]', "type"),
        ('[{"filters": [{"field": "a.b", "operator": "==", "value": "x"}]}]', "no field"),
        ('[{"filters": [{"field": "$.a[x]", "operator": "==", "value": "x"}]}]', "from character 4 on"),
        ('[{"filters": [{"field": "$", "operator": "==", "value": "x"}]}]', "whole row"),
        ('[{"filters": [{"field": "$.a", "operator": ">", "value": "much"}]}]', "no number"),
        ('[{"filters": [{"field": "$.a", "operator": ">", "value": 1' + "0" * 400 + "}]}]", "no number"),
        ('[{"filters": [{"field": "$.a", "operator": "==", "value": "soon", "type": "date"}]}]', "no date"),
        ('[{"filters": [{"field": "$.a", "operator": "contains", "value": "2026-01-01", "type": "date"}]}]', "date"),
        ("[" * 100_000, "not valid JSON"),
        (json.dumps([{"filters": [{"field": "$.a", "value": "x"}] * 101}]), "more than 100"),
    ],
)
def test_what_cannot_be_is_said(text: str, why: str):
    with pytest.raises(UsageError, match=why):
        filters.read(text)


def test_paths_have_one_spelling():
    assert parse("$['a'][\"b c\"][0].d-e").text == '$.a["b c"][0].d-e'
    assert parse("$.a.b").parts == ("a", "b")
    with pytest.raises(UsageError, match="cannot be read"):
        parse('$["a\\"b"]')
    with pytest.raises(UsageError, match="cannot be read"):
        parse("$" + ".a" * 50)


def test_pages_are_sorted_and_bounded(store: Any):
    by_score = page_of(store, sort_field="score", descending=False, page_size=3)
    assert [row["rolloutId"] for row in by_score.rows] == ["bare", "r0", "r1"]  # no score comes first
    newest = page_of(store, page=2, page_size=4)
    assert [row["rolloutId"] for row in newest.rows] == ["r5", "r4", "r3", "r2"]
    assert page_of(store, page=99, page_size=4).page == 3
    by_path = page_of(store, sort_field=f'{INFO}["odd key."]', page_size=2)
    assert [row["rolloutId"] for row in by_path.rows] == ["r8", "r7"]
    for wrong in ({"page": 0}, {"page_size": 0}, {"page_size": 5000}, {"sort_field": "a b"}):
        with pytest.raises(UsageError):
            page_of(store, **wrong)  # type: ignore[arg-type]


def test_a_summary_says_what_the_table_shows(store: Any):
    [row] = page_of(
        store, filters.read('[{"filters": [{"field": "$.input_metadata.row_id", "operator": "==", "value": "row3"}]}]')
    ).rows
    created = (NOON + timedelta(days=3)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert datetime.now(UTC) - datetime.fromisoformat(row.pop("updatedAt")) < timedelta(minutes=10)
    assert row == {
        "rolloutId": "r3", "invocationId": "inv", "experimentId": "exp", "runId": "run", "rowId": "row3",
        "name": "test_it", "model": "b", "createdAt": created,
        "rolloutStatus": {"code": 100, "message": "Rollout finished"},
        "evalStatus": {"code": 100, "message": "Evaluation finished"},
        "score": 0.3, "isScoreValid": True, "metrics": {"m": 1.0},
        "prompt": "Question 3", "answer": "Answer <b>x</b>", "turns": 1,
    }  # fmt: skip
    text = whole_row(store, "r3")
    assert text is not None
    assert EvaluationRow.model_validate_json(text).input_metadata.dataset_info["odd key."] == 3  # type: ignore[index]
    assert whole_row(store, "nobody") is None


def test_fields_are_the_leaves_of_rows(store: Any):
    found = {field["path"]: field for field in fields(store)}
    assert found["$.evaluation_result.score"]["type"] == "number"
    assert found["$.created_at"]["type"] == "date"
    assert found[f"{INFO}.when"]["type"] == "date"
    assert found[f"{INFO}.flag"] == {"path": f"{INFO}.flag", "type": "boolean", "values": [True]}
    assert found[f'{INFO}["odd key."]']["values"] == list(range(9))
    assert found["$.input_metadata.completion_params.model"]["values"] == ["a", "b"]
    assert "$.messages[0].content" in found
    for path in found:
        matching(store, (path, "contains", "x", "text"))  # each of them can be filtered by


def test_exports_have_what_the_filter_lets_through(store: Any):
    where = filters.read(
        '[{"filters": [{"field": "$.evaluation_result.score", "operator": ">", "value": "0.6", "type": "number"}]}]'
    )
    lines = "".join(export(store, "jsonl", where)).splitlines()
    rows = [EvaluationRow.model_validate_json(line) for line in lines]
    assert [row.execution_metadata.rollout_id for row in rows] == ["r8", "r7"]
    table = "".join(export(store, "csv"))
    assert len(table.splitlines()) == 11
    assert table.splitlines()[0].endswith("rollout_id,metrics.m")
    with pytest.raises(UsageError, match="jsonl or csv"):
        export(store, "xml")


def test_a_spreadsheet_runs_nothing_of_a_csv(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as writer:
        row = made(1)
        row.messages = [Message(role="user", content="=HYPERLINK(1)"), Message(role="assistant", content="+1, 'a'\n2")]
        row.evaluation_result.reason = " =cmd()"
        writer.log(row)
    connection = connect(path)
    table = "".join(export(connection, "csv"))
    connection.close()
    assert ",'=HYPERLINK(1)," in table
    assert ",' =cmd()," in table
    assert ",=HYPERLINK" not in table


def test_numbers_that_json_does_not_know_spoil_no_query(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as writer:
        writer.log(made(1, bad=float("nan"), worse=float("-inf")))
        writer.log(made(2))
    connection = connect(path)
    where = filters.read(json.dumps([{"filters": [{"field": f"{INFO}.ratio", "operator": "==", "value": "0.5"}]}]))
    assert page_of(connection, where).matching == 2
    where = filters.read(
        json.dumps([{"filters": [{"field": "$.messages[0].content", "operator": "==", "value": "Question 1"}]}])
    )
    assert page_of(connection, where).matching == 1
    connection.close()
