"""Pivot and comparison: what SQL sums up agrees with the plain statistics, and with numbers known from elsewhere."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.errors import UsageError
from eval_protocol.evaluation import intervals
from eval_protocol.evaluation.paired import SIGN_FLIPS, SIGN_TEST, T_TEST, sign_flips, sign_test
from eval_protocol.models import EvalMetadata, EvaluateResult, EvaluationRow, Message, Status
from eval_protocol.results import ResultsStore, filters
from eval_protocol.results.compare import Pair, compare, summarise
from eval_protocol.results.pivot import pivot
from eval_protocol.results.schema import connect

SCORE, NAME, MODEL = (
    "$.evaluation_result.score",
    "$.eval_metadata.name",
    "$.input_metadata.completion_params.model",
)


def write(path: Path, scores: dict[tuple[str, str, str], list[float | None]], **more: Any) -> Any:
    """A store with one rollout per score of (name, model, row); None is an invalid score."""
    with ResultsStore(path) as writer:
        for (name, model, row_id), values in scores.items():
            for run, value in enumerate(values):
                row = EvaluationRow(messages=[Message(role="user", content=f"prompt of {row_id}")])
                row.rollout_status = Status.rollout_finished()
                row.eval_metadata = EvalMetadata(name=name)
                row.execution_metadata.rollout_id = f"{name}-{model}-{row_id}-{run}"
                row.execution_metadata.invocation_id = f"inv-{model}"
                row.input_metadata.row_id = row_id
                row.input_metadata.completion_params = {"model": model}
                row.evaluation_result = EvaluateResult(score=value or 0.0, is_score_valid=value is not None)
                row.evaluation_result.agg_score = 0.25
                row.input_metadata.dataset_info = {"tokens": 100 * (run + 1), **more}
                writer.log(row)
    return connect(path)


def groups(seed: int = 1, binary: bool = False) -> dict[tuple[str, str, str], list[float | None]]:
    generator = random.Random(seed)
    made: dict[tuple[str, str, str], list[float | None]] = {}
    for name, model, place in itertools.product(("one", "two"), ("a", "b"), range(12)):
        values = [float(generator.random() < 0.6) if binary else round(generator.random(), 3) for _ in range(4)]
        made[name, model, f"row{place}"] = [None if generator.random() < 0.1 else value for value in values]
    return made


def of(scores: dict[tuple[str, str, str], list[float | None]], **wanted: str) -> list[list[float]]:
    """The valid scores per row, of a name and a model."""
    rows: dict[tuple[str, str], list[float]] = {}
    for (name, model, row_id), values in scores.items():
        if wanted.get("name", name) == name and wanted.get("model", model) == model:
            rows.setdefault((name, row_id), []).extend(value for value in values if value is not None)
    return list(rows.values())


@pytest.mark.parametrize("binary", [False, True])
def test_a_cell_agrees_with_the_statistics_of_an_experiment(tmp_path: Path, binary: bool):
    scores = groups(binary=binary)
    store = write(tmp_path / "r.db", scores)
    found = pivot(store, rows=[NAME], columns=[MODEL], value=SCORE, aggregator="avg")
    assert (found["rows"], found["columns"]) == ([["one"], ["two"]], [["a"], ["b"]])
    for (i, name), (j, model) in itertools.product(enumerate(["one", "two"]), enumerate(["a", "b"])):
        expected = of(scores, name=name, model=model)
        cell = found["cells"][i][j]
        flat = [value for row in expected for value in row]
        assert cell["count"] == len(flat)
        assert cell["value"] == pytest.approx(intervals.mean(flat))
        assert (cell["low"], cell["high"]) == pytest.approx(intervals.interval(expected))
    for total, wanted in (
        (found["rowTotals"][0], {"name": "one"}),
        (found["columnTotals"][1], {"model": "b"}),
        (found["grandTotal"], {}),
    ):
        expected = of(scores, **wanted)
        assert total["value"] == pytest.approx(intervals.mean([value for row in expected for value in row]))
        assert (total["low"], total["high"]) == pytest.approx(intervals.interval(expected))
    error = pivot(store, rows=[NAME], columns=[MODEL], value=SCORE, aggregator="stderr")
    assert error["cells"][1][0]["value"] == pytest.approx(
        intervals.clustered_standard_error(of(scores, name="two", model="a"))
    )
    for k in (1, 2, 4):
        passed = pivot(store, rows=[NAME], columns=[MODEL], value=SCORE, aggregator="pass@k", k=k, threshold=0.7)
        expected = intervals.pass_at_k(of(scores, name="one", model="b"), k, 0.7)
        assert passed["cells"][0][1]["value"] == pytest.approx(expected)
    store.close()


def test_the_other_aggregators_and_other_numbers(tmp_path: Path):
    store = write(
        tmp_path / "r.db", {("one", "a", "x"): [0.25, 0.5, None], ("one", "b", "x"): [1.0]}, split="test", ok=True
    )

    def cells(aggregator: str, value: str = SCORE) -> list[Any]:
        found = pivot(store, rows=[NAME], columns=[MODEL], value=value, aggregator=aggregator)
        return [cell["value"] for cell in found["cells"][0]] + [found["grandTotal"]["value"]]

    assert cells("count") == [3, 1, 4]
    assert cells("sum") == [0.75, 1.0, 1.75]
    assert cells("min") == [0.25, 1.0, 0.25]
    assert cells("max") == [0.5, 1.0, 1.0]
    assert cells("avg", "$.evaluation_result.agg_score") == [0.25, 0.25, 0.25]
    assert cells("avg", "$.input_metadata.dataset_info.tokens") == [200, 100, 175]
    assert cells("avg", "$.input_metadata.dataset_info.split") == [None, None, None]
    assert cells("avg", "$.input_metadata.dataset_info.ok") == [1, 1, 1]
    tokens = pivot(store, rows=[NAME], value="$.input_metadata.dataset_info.tokens", aggregator="avg")["grandTotal"]
    assert tokens["low"] is None
    by_flag = pivot(store, rows=["$.input_metadata.dataset_info.ok", "$.missing"], columns=[], value=SCORE)
    assert by_flag["rows"] == [["true", None]]
    assert by_flag["columns"] == [[]]
    whole = pivot(store, rows=[], columns=[], value=SCORE)
    assert whole["cells"][0][0]["value"] == pytest.approx(1.75 / 3)
    nothing = pivot(
        store, filters.read('[{"filters": [{"field": "$.nope", "operator": "==", "value": "1"}]}]'), rows=[NAME]
    )
    assert (nothing["rows"], nothing["cells"], nothing["grandTotal"]["value"]) == ([], [], None)
    for wrong in (
        {"aggregator": "median"},
        {"k": 0},
        {"value": "score"},
        {"rows": ["x"]},
        {"rows": [NAME] * 6},
    ):
        with pytest.raises(UsageError):
            pivot(store, **{"rows": [NAME], **wrong})
    store.close()


def test_a_pivot_that_no_table_can_show_is_refused(tmp_path: Path):
    store = write(tmp_path / "r.db", {("one", "a", f"row{place}"): [0.5] for place in range(201)})
    with pytest.raises(UsageError, match="or 200 columns"):
        pivot(store, rows=[NAME], columns=["$.input_metadata.row_id"], value=SCORE)
    assert len(pivot(store, rows=["$.input_metadata.row_id"], value=SCORE)["rows"]) == 201
    store.close()


def test_pairs_are_rows_of_the_same_evaluation(tmp_path: Path):
    store = write(
        tmp_path / "r.db",
        {
            ("one", "a", "x"): [0.0, 0.5],
            ("one", "b", "x"): [1.0],
            ("one", "a", "y"): [0.5],
            ("one", "b", "y"): [0.4, None],
            ("two", "a", "x"): [0.1],  # another evaluation's row x, on one side only
            ("one", "a", "z"): [None],
            ("one", "b", "z"): [1.0],
        },
    )
    for by, left, right in (("model", "a", "b"), ("invocation", "inv-a", "inv-b")):
        found = compare(store, by, left, right)
        assert [pair["rowId"] for pair in found["pairs"]] == ["x", "y"]
        first = found["pairs"][0]
        assert (first["left"], first["right"], first["difference"]) == (0.25, 1.0, 0.75)
        assert sorted(first["leftIds"]) == ["one-a-x-0", "one-a-x-1"]
        assert first["rightIds"] == ["one-b-x-0"]
        assert found["pairs"][1]["rightIds"] == ["one-b-y-0", "one-b-y-1"], "runs with a score come first"
        assert first["prompt"] == "prompt of x"
        assert found["unpaired"] == {"left": 2, "right": 1}
        summary = found["summary"]
        assert (summary["n"], summary["wins"], summary["losses"], summary["ties"]) == (2, 1, 1, 0)
        assert (
            summary["difference"] == pytest.approx(summary["meanRight"] - summary["meanLeft"]) == pytest.approx(0.325)
        )
        assert summary["low"] < summary["difference"] < summary["high"]
    assert compare(store, "model", "a", "b", page=2, page_size=1)["pairs"][0]["rowId"] == "y"
    only = filters.read(
        json.dumps([{"filters": [{"field": "$.input_metadata.row_id", "operator": "==", "value": "y"}]}])
    )
    assert compare(store, "model", "a", "b", only)["total"] == 1
    empty = compare(store, "model", "a", "nobody")
    assert empty["summary"]["p"] is None
    assert empty["pairs"] == []
    for by, left, right in (("prompt", "a", "b"), ("model", "a", "a"), ("model", "", "b")):
        with pytest.raises(UsageError):
            compare(store, by, left, right)
    store.close()


def test_p_values():
    assert sign_test(8, 2) == pytest.approx((22 + 45) / 1024)  # 2 P(X < 2) + P(X = 2), X ~ B(10, 1/2)
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 5) == 1.0
    assert sign_test(1100, 1000) == pytest.approx(0.0291, abs=2e-4)  # from the exact sum
    assert sign_flips([]) == 1.0
    assert sign_flips([1.0, 2.0, 3.0]) == 1 / 8
    differences = [0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.1, 0.35, 0.15, -0.2]
    flips = itertools.product((-1, 1), repeat=10)
    signs = [abs(sum(s * d for s, d in zip(flip, differences, strict=True))) for flip in flips]
    observed = abs(sum(differences))
    beyond, equal = sum(each > observed + 1e-9 for each in signs), sum(abs(each - observed) < 1e-9 for each in signs)
    assert sign_flips(differences) == (beyond + equal / 2) / 1024
    assert sign_flips([1.0] * 5) == sign_test(5, 0) == 1 / 2**5
    generator = random.Random(3)
    many = [generator.gauss(0.1, 1) for _ in range(300)]
    mean = math.fsum(many) / 300
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in many) / 299 / 300)
    assert sign_flips(many) == pytest.approx(math.erfc(abs(mean / error) / math.sqrt(2)), abs=0.02)
    assert sign_flips(many) == sign_flips(many)


@pytest.mark.parametrize(
    ("binary", "n", "test"), [(True, 40, SIGN_TEST), (False, 40, SIGN_FLIPS), (False, 3000, T_TEST)]
)
def test_the_test_fits_the_scores(binary: bool, n: int, test: str):
    generator = random.Random(n)
    draw = (lambda p: float(generator.random() < p)) if binary else (lambda p: min(1.0, p + generator.random() / 3))
    alike = summarise([Pair("e", str(i), draw(0.5), draw(0.5)) for i in range(n)])
    better = summarise([Pair("e", str(i), draw(0.2), draw(0.6)) for i in range(n)])
    assert alike.test == better.test == test
    assert alike.p is not None
    assert better.p is not None
    assert better.p < 0.01 < alike.p
    assert better.low is not None
    assert better.low > 0
    same = summarise([Pair("e", "1", 0.5, 0.5), Pair("e", "2", 0.7, 0.7)])
    assert (same.p, same.ties, same.difference) == (1.0, 2, 0.0)
