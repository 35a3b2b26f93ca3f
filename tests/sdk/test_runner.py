"""The runner without pytest's help: real HTTP, real store, and everything that can go wrong with one row."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.errors import DatasetError, NoValidScores, ThresholdMissed, UsageError
from eval_protocol.evaluation.decorator import spec_of
from eval_protocol.evaluation.report import EvaluationReport, results_box
from eval_protocol.evaluation.runner import closing_lines, run_evaluation, settings_with
from eval_protocol.models import EvaluateResult, EvaluationRow, Message, MetricResult, Status
from eval_protocol.pytest import (
    BackoffConfig,
    ExceptionHandlerConfig,
    NoOpRolloutProcessor,
    RolloutProcessor,
    evaluation_test,
)
from eval_protocol.results import list_invocations, rows_of
from eval_protocol.settings import RunSettings

from tests.sdk.conftest import FakeModel, completion

QUICK = ExceptionHandlerConfig(backoff_config=BackoffConfig(base_delay=0.01, max_delay=0.05))


def rows(*texts: str) -> list[EvaluationRow]:
    return [EvaluationRow(messages=[Message(role="user", content=text)]) for text in texts]


def echo_score(row: EvaluationRow) -> EvaluationRow:
    row.evaluation_result = EvaluateResult(score=float(row.messages[-1].text), reason="echoed")
    return row


async def run(function: Any, tmp_path: Path, **settings: Any) -> EvaluationReport:
    defaults = {"results_db": tmp_path / "results.db", "local_ui_port": 9}
    return await run_evaluation(spec_of(function), RunSettings(**{**defaults, **settings}))


async def test_rollouts_are_scored_and_stored(model: FakeModel, tmp_path: Path):
    scored = evaluation_test(
        input_rows=[rows("0", "1", "1", "0.5")],
        completion_params=[{"model": "m", "api_base": model.url, "api_key": "sk-secret"}],
        passed_threshold=0.6,
    )(echo_score)
    report = await run(scored, tmp_path, invocation_id="inv")
    [experiment] = report.experiments
    assert report.passed
    assert report.score == pytest.approx(0.625)
    assert (experiment.result.valid, experiment.result.invalid) == (4, 0)
    assert [row.messages[0].content for row in report.rows] == ["0", "1", "1", "0.5"]
    for row in report.rows:
        ids = row.execution_metadata
        assert ids.invocation_id == "inv"
        assert ids.experiment_id == experiment.experiment_id
        assert ids.run_id
        assert row.input_metadata.row_id
        assert row.rollout_status.is_finished()
        assert row.evaluation_result.agg_score == report.score  # type: ignore[union-attr]
        assert row.eval_metadata.passed  # type: ignore[union-attr]
    assert len({row.execution_metadata.rollout_id for row in report.rows}) == 4
    stored = rows_of(tmp_path / "results.db", "inv")
    assert [entry.row for entry in stored] == report.rows
    assert "sk-secret" not in (tmp_path / "results.db").read_bytes().decode(errors="ignore")
    assert (
        "sk-secret" not in (tmp_path / "results.db-wal").read_text(errors="ignore")
        if (tmp_path / "results.db-wal").exists()
        else True
    )
    [invocation] = list_invocations(tmp_path / "results.db")
    assert (invocation.rollouts, invocation.valid, invocation.models) == (4, 4, ("m",))
    assert invocation.mean_score == pytest.approx(0.625)


BAD: dict[str, tuple[Any, str]] = {
    "raise": (ValueError("bad row"), r"Error during evaluation: ValueError: bad row \(test_runner\.py:\d+\)"),
    "exit": (SystemExit(3), "SystemExit: 3"),
    "stop": (StopIteration("s"), "StopIteration"),
    "none": (None, "None instead of the row"),
    "dict": ({"score": 1}, "dict instead of the row"),
    "nan": (math.nan, "nan, not a finite number"),
    "inf": (math.inf, "inf, not a finite number"),
    "high": (1.5, "1.5; it must lie between 0 and 1"),
    "low": (-0.1, "-0.1; it must lie between 0 and 1"),
}


def misbehave(row: EvaluationRow) -> Any:
    value = BAD.get(row.messages[0].text, (1.0, ""))[0]
    if isinstance(value, BaseException):
        raise value
    return value


async def misbehave_async(row: EvaluationRow) -> Any:
    await asyncio.sleep(0)
    return misbehave(row)


@pytest.mark.parametrize("body", [misbehave, misbehave_async])
async def test_what_an_evaluator_does_wrong_costs_one_row(body: Any, tmp_path: Path):
    scored = evaluation_test(input_rows=[rows("fine", *BAD)], rollout_processor=NoOpRolloutProcessor())(body)
    report = await run(scored, tmp_path)
    assert report.passed
    assert report.score == 1.0
    for row in report.rows[1:]:
        result = row.evaluation_result
        assert result is not None
        assert not result.is_score_valid
        assert result.reason
        assert __import__("re").search(BAD[row.messages[0].text][1], result.reason)
        assert EvaluationRow.model_validate_json(row.model_dump_json(exclude_none=True)) == row
    assert report.experiments[0].result.invalid_scores == len(BAD)


async def test_exceptions_end_the_run_when_asked_to(tmp_path: Path):
    scored = evaluation_test(input_rows=[rows("fine", "raise")], rollout_processor=NoOpRolloutProcessor())(misbehave)
    with pytest.raises(ValueError, match="bad row"):
        await run(scored, tmp_path, raise_eval_exceptions=True)


@pytest.mark.parametrize(
    ("give", "score"),
    [
        (lambda row: 0.25, 0.25),
        (lambda row: True, 1.0),
        (lambda row: EvaluateResult(score=0.5, metrics={"a": MetricResult(score=7, reason="r")}), 0.5),
        (lambda row: EvaluationRow(messages=row.messages, evaluation_result=EvaluateResult(score=0.75)), 0.75),
    ],
)
async def test_other_ways_to_give_a_score(give: Any, score: float, tmp_path: Path):
    def body(row: EvaluationRow) -> Any:
        return give(row)

    scored = evaluation_test(input_rows=[rows("q")], rollout_processor=NoOpRolloutProcessor())(body)
    report = await run(scored, tmp_path)
    assert report.score == score
    assert report.rows[0].execution_metadata.invocation_id == report.invocation_id


async def test_the_idiom_of_the_documentation_works(tmp_path: Path):
    def body(row: EvaluationRow) -> EvaluationRow:
        if row.messages[0].text != "unset":
            row.evaluation_result.score = 0.5  # type: ignore[union-attr]
            row.evaluation_result.reason = "half"  # type: ignore[union-attr]
        return row

    scored = evaluation_test(input_rows=[rows("q", "unset")], rollout_processor=NoOpRolloutProcessor())(body)
    report = await run(scored, tmp_path)
    assert report.rows[0].evaluation_result.reason == "half"  # type: ignore[union-attr]
    assert type(report.rows[0].evaluation_result) is EvaluateResult
    assert "without an evaluation_result" in report.rows[1].evaluation_result.reason  # type: ignore[union-attr, operator]


async def test_failed_rollouts_are_recorded_and_never_scored(model: FakeModel, tmp_path: Path):
    calls: list[str] = []

    def body(row: EvaluationRow) -> EvaluationRow:
        calls.append(row.messages[0].text)
        return echo_score(row)

    def answer(seen: Any) -> Any:
        text = seen.body["messages"][0]["content"]
        return (400, {}, {"error": {"message": "too long"}}) if text == "bad" else (200, {}, completion(text))

    model.answer = answer
    scored = evaluation_test(
        input_rows=[rows("1", "bad")],
        completion_params=[{"model": "m", "api_base": model.url}],
        exception_handler_config=QUICK,
    )(body)
    report = await run(scored, tmp_path)
    assert calls == ["1"]
    failed = report.rows[1]
    assert failed.rollout_status.code == Status.Code.INVALID_ARGUMENT
    assert "400: too long" in failed.rollout_status.message
    assert failed.rollout_status.get_extra_info() == {"tries": 1}
    assert failed.evaluation_result is None
    result = report.experiments[0].result
    assert (result.failed_rollouts, result.valid, report.score) == (1, 1, 1.0)
    stored = rows_of(tmp_path / "results.db", report.invocation_id)
    assert stored[1].row.rollout_status.code == 3


async def test_only_what_may_pass_is_tried_again(model: FakeModel, tmp_path: Path):
    tries: dict[str, int] = {}
    sent: dict[str, list[Any]] = {}

    def answer(seen: Any) -> Any:
        text = seen.body["messages"][0]["content"]
        tries[text] = tries.get(text, 0) + 1
        sent.setdefault(text, []).append(seen.body["messages"])
        if text == "0.5" and tries[text] <= 2:
            return 503, {}, {"error": "busy"}
        if text == "always":
            return 429, {"Retry-After": "0.01"}, {}
        if text == "never":
            return 404, {}, {}
        return 200, {}, completion(text)

    model.answer = answer
    scored = evaluation_test(
        input_rows=[rows("1", "0.5", "always", "never")],
        completion_params=[{"model": "m", "api_base": model.url}],
        exception_handler_config=QUICK,
    )(echo_score)
    report = await run(scored, tmp_path)
    assert tries == {"1": 1, "0.5": 3, "always": 4, "never": 1}
    assert all(messages == sent["0.5"][0] for messages in sent["0.5"])
    assert report.score == pytest.approx(0.75)
    assert report.rows[2].rollout_status.get_extra_info() == {"tries": 4}
    assert report.rows[2].rollout_status.code == 8
    tries.clear()
    assert (await run(scored, tmp_path, max_retry=0)).experiments[0].result.failed_rollouts == 3
    tries.clear()
    strict = await run(scored, tmp_path, max_retry=0, fail_on_max_retry=True)
    assert isinstance(strict.experiments[0].failure, ThresholdMissed)


async def test_every_try_has_an_id_of_its_own_and_only_the_last_stays(model: FakeModel, tmp_path: Path, clean: Path):
    asked: list[str] = []

    def answer(seen: Any) -> Any:
        asked.append(seen.path.split("/")[2])
        return (200, {}, completion("1")) if len(asked) == 3 else (503, {}, {})

    model.answer = answer
    scored = evaluation_test(
        input_rows=[rows("q")], completion_params=[{"model": "m"}], exception_handler_config=QUICK
    )(echo_score)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EP_MODEL_BASE_URL", model.url)
        report = await run(scored, tmp_path, invocation_id="inv")
    assert asked == [asked[0], f"{asked[0]}-t1", f"{asked[0]}-t2"]
    [row] = report.rows
    assert row.execution_metadata.rollout_id == asked[-1]
    [stored] = rows_of(tmp_path / "results.db", "inv")
    assert stored.row == row


async def test_retry_after_is_waited_for(model: FakeModel, tmp_path: Path):
    model.answer = lambda seen: (
        (429, {"Retry-After": "0.3"}, {}) if len(model.seen) == 1 else (200, {}, completion("1"))
    )
    scored = evaluation_test(input_rows=[rows("1")], completion_params=[{"model": "m", "api_base": model.url}])(
        echo_score
    )
    started = time.monotonic()
    report = await run(scored, tmp_path)
    assert report.passed
    assert 0.3 <= time.monotonic() - started < 3


class Scripted(RolloutProcessor):
    """A processor of the user's that fails in every way there is."""

    def __init__(self) -> None:
        self.cleaned = 0

    def __call__(self, rows, config):
        async def one(row: EvaluationRow) -> Any:
            async with config.semaphore:
                text = row.messages[0].text
                if text == "raises":
                    raise RuntimeError("agent broke")
                if text == "status":
                    row.rollout_status = Status.rollout_error("agent said no")
                if text == "cancelled":
                    raise asyncio.CancelledError
                if text == "wrong":
                    return "no row"
                row.messages.append(Message(role="assistant", content="1"))
                return row

        return [asyncio.create_task(one(row)) for row in rows]

    async def acleanup(self) -> None:
        self.cleaned += 1


async def test_processors_of_users_may_fail_in_every_way(tmp_path: Path):
    processor = Scripted()
    scored = evaluation_test(
        input_rows=[rows("fine", "raises", "status", "cancelled", "wrong")], rollout_processor=processor
    )(echo_score)
    report = await run(scored, tmp_path)
    messages = [row.rollout_status.message for row in report.rows]
    assert report.rows[0].evaluation_result.score == 1  # type: ignore[union-attr]
    assert messages[1] == "RuntimeError: agent broke"
    assert messages[2] == "agent said no"
    assert "cancelled" in messages[3]
    assert report.rows[3].rollout_status.code == 1
    assert "returned str" in messages[4]
    assert processor.cleaned == 1


async def test_a_processor_that_cannot_start_costs_its_rows(tmp_path: Path):
    class Broken(RolloutProcessor):
        def __call__(self, rows, config):
            raise OSError("no browser")

    scored = evaluation_test(input_rows=[rows("a", "b")], rollout_processor=Broken())(echo_score)
    report = await run(scored, tmp_path)
    assert isinstance(report.experiments[0].failure, NoValidScores)
    assert "no browser" in str(report.experiments[0].failure)
    assert report.score is None


async def test_sync_evaluators_leave_the_loop_free(tmp_path: Path):
    threads: set[str] = set()
    ticks: list[float] = []

    def slow(row: EvaluationRow) -> float:
        threads.add(threading.current_thread().name)
        time.sleep(0.15)
        return 1.0

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    scored = evaluation_test(
        input_rows=[rows("a", "b", "c", "d")],
        rollout_processor=NoOpRolloutProcessor(),
        max_concurrent_evaluations=2,
    )(slow)
    ticking = asyncio.create_task(tick())
    started = time.monotonic()
    await run(scored, tmp_path)
    elapsed = time.monotonic() - started
    ticking.cancel()
    assert threading.current_thread().name not in threads
    assert len(threads) == 2
    assert elapsed >= 0.3
    assert max(b - a for a, b in zip(ticks, ticks[1:], strict=False)) < 0.14


async def test_scoring_is_pipelined_with_rollouts(model: FakeModel, tmp_path: Path):
    """The first row is scored long before the last rollout has ended."""
    scored_at: list[int] = []

    async def body(row: EvaluationRow) -> float:
        scored_at.append(len(model.seen))
        return 1.0

    model.delay = 0.02
    scored = evaluation_test(
        input_rows=[rows(*map(str, range(10)))],
        completion_params=[{"model": "m", "api_base": model.url}],
        max_concurrent_rollouts=1,
    )(body)
    await run(scored, tmp_path)
    assert scored_at[0] <= 2


async def test_runs_are_independent_and_clustered(model: FakeModel, tmp_path: Path):
    scored = evaluation_test(
        input_rows=[rows("0", "1", "1", "0")],
        completion_params=[{"model": "m", "api_base": model.url}],
        num_runs=3,
        max_concurrent_rollouts=4,
    )(echo_score)
    report = await run(scored, tmp_path)
    [experiment] = report.experiments
    assert len(experiment.runs) == 3
    assert len({row.execution_metadata.run_id for row in report.rows}) == 3
    assert len({row.execution_metadata.rollout_id for row in report.rows}) == 12
    assert experiment.result.scores == ((0, 0, 0), (1, 1, 1), (1, 1, 1), (0, 0, 0))
    assert experiment.result.pass_at(2) == 0.5
    once = await run(scored, tmp_path, num_runs=1)
    assert experiment.result.score.standard_error == pytest.approx(  # type: ignore[union-attr]
        once.experiments[0].result.score.standard_error  # type: ignore[union-attr]
    )
    assert model.busiest <= 4


@pytest.mark.parametrize(("method", "expected"), [("mean", 0.5), ("max", 0.75), ("min", 0.25), ("bootstrap", 0.5)])
async def test_aggregation_methods(method: Any, expected: float, tmp_path: Path):
    """Two runs with means 0.25 and 0.75."""
    calls = iter([0.0, 0.5, 0.5, 1.0])

    async def body(row: EvaluationRow) -> float:
        return next(calls)

    scored = evaluation_test(
        input_rows=[rows("a", "b")],
        rollout_processor=NoOpRolloutProcessor(),
        num_runs=2,
        aggregation_method=method,
    )(body)
    report = await run(scored, tmp_path)
    assert report.score == pytest.approx(expected, abs=0.03 if method == "bootstrap" else 1e-9)


@pytest.mark.parametrize(
    ("threshold", "passes"),
    [(None, True), (0, True), (0.5, True), (1, False), ({"success": 0.5, "standard_error": 0.1}, False),
     ({"standard_error": 0.4}, True)],
)  # fmt: skip
async def test_thresholds(threshold: Any, passes: bool, tmp_path: Path):
    def body(row: EvaluationRow) -> float:
        return float(row.messages[0].text)

    scored = evaluation_test(
        input_rows=[rows("0", "1", "0", "1")], rollout_processor=NoOpRolloutProcessor(), passed_threshold=threshold
    )(body)
    report = await run(scored, tmp_path)
    assert report.passed is passes
    assert report.rows[0].eval_metadata.passed is passes  # type: ignore[union-attr]


async def test_nothing_valid_is_no_zero(tmp_path: Path):
    scored = evaluation_test(
        input_rows=[rows("raise", "raise")], rollout_processor=NoOpRolloutProcessor(), passed_threshold=0
    )(misbehave)
    report = await run(scored, tmp_path)
    assert report.score is None
    assert "bad row" in str(report.experiments[0].failure)
    text = "\n".join(closing_lines(report.experiments, RunSettings(local_ui_port=9)))
    assert "No valid scores · 2 rows × 1 run · 0 valid, 2 invalid" in text
    assert "2 × Error during evaluation: ValueError: bad row" in text


def write_jsonl(path: Path, *objects: Any) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in objects))
    return str(path)


async def test_datasets_adapters_filters_and_limits(tmp_path: Path):
    first = write_jsonl(tmp_path / "a.jsonl", *({"q": str(i), "id": f"row{i}"} for i in range(6)))
    second = write_jsonl(tmp_path / "b.jsonl", {"q": "9", "id": "last"})
    seen: list[int] = []

    def adapter(raw: list[dict[str, Any]]) -> list[EvaluationRow]:
        seen.append(len(raw))
        return [
            EvaluationRow.model_validate(
                {"messages": [{"role": "user", "content": r["q"]}], "input_metadata": {"row_id": r["id"]}}
            )
            for r in raw
        ]

    def body(row: EvaluationRow) -> float:
        return 1.0

    def evaluation(**arguments: Any) -> Any:
        return evaluation_test(
            input_dataset=[first, second],
            dataset_adapter=adapter,
            rollout_processor=NoOpRolloutProcessor(),
            **arguments,
        )(body)

    def questions(report: EvaluationReport) -> list[str]:
        return [row.messages[0].text for row in report.rows]

    assert questions(await run(evaluation(), tmp_path)) == ["0", "1", "2", "3", "4", "5", "9"]
    assert questions(await run(evaluation(max_dataset_rows=2), tmp_path)) == ["0", "1"]
    assert seen[-1] == 2
    assert questions(await run(evaluation(max_dataset_rows=2), tmp_path, max_dataset_rows="all"))[-1] == "9"
    chosen = evaluation(filtered_row_ids=["last", "row3"], max_dataset_rows=5)
    assert questions(await run(chosen, tmp_path)) == ["3", "9"]
    doubled = evaluation(preprocess_fn=lambda rows: rows + [row.model_copy(deep=True) for row in rows])
    assert len((await run(doubled, tmp_path)).rows) == 14
    apart = evaluation(combine_datasets=False)
    assert [len(experiment.rows) for experiment in (await run(apart, tmp_path)).experiments] == [6, 1]
    other = write_jsonl(tmp_path / "c.jsonl", {"q": "x", "id": "x"})
    assert questions(await run(evaluation(), tmp_path, jsonl_path=other)) == ["x"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"messages": []}\n{"messages": [\n', r"line 2: not valid JSON"),
        (
            '{"messages": []}\n{"messages": [{"role": "usr", "content": "a"}]}\n',
            r"line 2: 'usr' is no role of a message",
        ),
        ('\n\n["a"]\n', r"line 3: a list"),
        ("", "has no rows"),
        ('{"messages": [{"content": "no role"}]}\n', r"Row 1 .*messages\.0\.role"),
    ],
)
async def test_broken_datasets_say_where(content: str, says: str, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    scored = evaluation_test(input_dataset=[str(path)], rollout_processor=NoOpRolloutProcessor())(echo_score)
    with pytest.raises(DatasetError, match=says):
        await run(scored, tmp_path)
    with pytest.raises(DatasetError, match="no dataset"):
        await run(scored, tmp_path, jsonl_path=tmp_path / "nowhere.jsonl")


async def test_rows_without_messages_fail_alone(model: FakeModel, tmp_path: Path):
    scored = evaluation_test(
        input_rows=[[EvaluationRow(), *rows("1")]], completion_params=[{"model": "m", "api_base": model.url}]
    )(echo_score)
    report = await run(scored, tmp_path)
    assert "no messages" in report.rows[0].rollout_status.message
    assert report.score == 1.0


async def test_the_source_rows_stay_untouched(model: FakeModel, tmp_path: Path):
    source = rows("1")
    scored = evaluation_test(input_rows=[source], completion_params=[{"model": "m", "api_base": model.url}])(echo_score)
    await run(scored, tmp_path)
    await run(scored, tmp_path)
    assert len(source[0].messages) == 1
    assert source[0].evaluation_result is None


async def test_exports_and_summaries(model: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def body(row: EvaluationRow) -> EvaluateResult:
        value = float(row.messages[0].text)
        return EvaluateResult(score=value, metrics={"half": MetricResult(score=value / 2, reason="r")})

    scored = evaluation_test(
        input_rows=[rows("0", "1", "1", "x")],
        rollout_processor=NoOpRolloutProcessor(),
        completion_params=[{"model": "m"}],
    )(body)
    settings = RunSettings(
        results_db=tmp_path / "r.db",
        output_dir=tmp_path / "out",
        summary_json=tmp_path / "summaries",
        print_summary=True,
        local_ui_port=9,
    )
    report = await run_evaluation(spec_of(scored), settings)
    [experiment] = report.experiments
    lines = closing_lines(report.experiments, settings)
    exported = tmp_path / "out" / "experiment_results" / f"{experiment.experiment_id}.jsonl"
    records = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [record["evals"]["score"] for record in records] == [0, 1, 1, 0]
    assert [record["eval_details"]["is_score_valid"] for record in records] == [True, True, True, False]
    [written] = (tmp_path / "summaries").iterdir()
    assert written.name == "body__m__pointwise__runs1.json"
    summary = json.loads(written.read_text())
    assert summary["agg_score"] == pytest.approx(2 / 3)
    assert summary["agg_ci_low"] < 2 / 3 < summary["agg_ci_high"]
    assert (summary["rows"], summary["valid"], summary["invalid"], summary["passed"]) == (4, 3, 1, True)
    assert summary["metrics_agg"]["half"]["mean"] == pytest.approx(1 / 3)
    assert f"Summary written to {written}" in lines
    printed = capsys.readouterr().err
    assert "EP Summary | suite=body model=m runs=1 rows=4" in printed
    assert "raw_score (invalid as 0)=0.500" in printed


async def test_input_params_are_merged_deeply(model: FakeModel, tmp_path: Path):
    params = {"model": "m", "api_base": model.url, "temperature": 1, "extra_body": {"a": 1, "b": {"c": 2}}}
    scored = evaluation_test(input_rows=[rows("1")], completion_params=[params])(echo_score)
    await run(scored, tmp_path, input_params={"temperature": 0, "extra_body": {"b": {"d": 3}}})
    body = model.seen[0].body
    assert (body["temperature"], body["a"], body["b"]) == (0, 1, {"c": 2, "d": 3})
    assert params["temperature"] == 1


async def test_a_logger_of_ones_own_replaces_the_store(tmp_path: Path):
    logged: list[str] = []

    class Mine:
        def log(self, row: EvaluationRow) -> None:
            logged.append(row.rollout_status.code.name)

    scored = evaluation_test(input_rows=[rows("1")], rollout_processor=NoOpRolloutProcessor(), logger=Mine())(
        echo_score
    )
    await run(scored, tmp_path)
    assert logged == ["RUNNING", "FINISHED", "FINISHED", "FINISHED"]
    assert not (tmp_path / "results.db").exists()


def test_run_from_ordinary_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("EP_RESULTS_DB", str(tmp_path / "r.db"))
    monkeypatch.setenv("EP_LOCAL_UI_PORT", "9")
    monkeypatch.setenv("EP_NUM_RUNS", "2")

    scored = evaluation_test(input_rows=[rows("1", "1", "0")], rollout_processor=NoOpRolloutProcessor())(echo_score)
    report = scored.run(max_dataset_rows=2, passed_threshold=1)
    assert report.passed
    assert len(report.rows) == 4
    printed = capsys.readouterr()
    assert "Score 1.000 (95 % interval" in printed.out
    assert "📊 LOCAL UI EVALUATION RESULTS" in printed.out
    assert len(printed.err.splitlines()) <= 4
    with pytest.raises(UsageError, match="'rows'"):
        scored.run(rows=3)
    with pytest.raises(SystemExit) as ended:
        scored.main()
    assert ended.value.code == 0
    assert "PASSED" in capsys.readouterr().out
    monkeypatch.setenv("EP_PASSED_THRESHOLD", "0.9")
    with pytest.raises(SystemExit) as failed:
        scored.main()
    assert failed.value.code == 1
    assert "FAILED" in capsys.readouterr().out


def test_links_are_printed_only_where_the_ui_answers(model: FakeModel, tmp_path: Path):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    answer = [b'{"status": "ok", "active_connections": 0}']

    class Ui(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer[0])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ui) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = RunSettings(local_ui_port=server.server_port, results_db=tmp_path / "r.db")
        box = "\n".join(results_box(["inv-1"], settings))
        assert f"  📊 Aggregate scores: http://localhost:{server.server_port}/pivot?filterConfig=%5B" in box
        assert "/table?filterConfig=" in box
        answer[0] = b'{"hello": 1}'
        box = "\n".join(results_box(["inv-1"], settings))
        assert "http://" not in box
        assert str(tmp_path / "r.db") in box
        server.shutdown()


def test_unknown_overrides_are_refused():
    with pytest.raises(UsageError, match="nothing"):
        settings_with({"nothing": 1})


async def test_equal_failures_are_counted_together_and_said_to_the_end(model: FakeModel, profile: str, tmp_path: Path):
    why = "too long " * 40 + "shorten the prompt"
    model.answer = lambda seen: (400, {}, {"error": {"message": why}})
    scored = evaluation_test(
        input_rows=[rows("1", "2", "3")],
        completion_params=[{"model": "accounts/tunesmith/models/tiny"}],
        exception_handler_config=QUICK,
    )(echo_score)
    result = (await run(scored, tmp_path)).experiments[0].result
    address = f"{model.url}/litellm-gateway/chat/completions"
    assert result.reasons == ((f"rollout failed: 400: {why} (from accounts/tunesmith/models/tiny at {address})", 3),)


async def test_how_to_get_a_platform_is_never_cut_away(tmp_path: Path):
    scored = evaluation_test(
        input_rows=[rows("1", "2")], completion_params=[{"model": "accounts/" + "long-name" * 20}]
    )(echo_score)
    [(reason, count)] = (await run(scored, tmp_path)).experiments[0].result.reasons
    assert count == 2
    assert reason.endswith("or give api_base in completion_params.")


async def test_of_an_endless_reason_the_middle_is_left_out(tmp_path: Path):
    def score(row: EvaluationRow) -> EvaluationRow:
        row.evaluation_result = EvaluateResult(
            score=0.0, reason="cause " + "x" * 5000 + " remedy", is_score_valid=False
        )
        return row

    scored = evaluation_test(input_rows=[rows("1")], rollout_processor=NoOpRolloutProcessor())(score)
    [(reason, _)] = (await run(scored, tmp_path)).experiments[0].result.reasons
    assert reason.startswith("cause x")
    assert reason.endswith("x remedy")
    assert len(reason) < 1100


async def test_an_adapter_makes_only_roles_that_exist(tmp_path: Path):
    def adapter(raw: list[dict[str, Any]]) -> list[EvaluationRow]:
        return [EvaluationRow(messages=[Message(role="human", content="hi")]) for _ in raw]

    scored = evaluation_test(
        input_dataset=[write_jsonl(tmp_path / "rows.jsonl", {"messages": [{"role": "anything"}]})],
        dataset_adapter=adapter,
        rollout_processor=NoOpRolloutProcessor(),
    )(echo_score)
    with pytest.raises(DatasetError, match="place 1 a row that cannot be sent: 'human' is no role"):
        await run(scored, tmp_path)
