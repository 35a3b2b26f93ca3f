"""Running an evaluation: plain asyncio. pytest, `python evaluation.py` and the evaluator host only call it.

Rollouts and scores are pipelined: a row is scored as soon as its own rollout has ended, by the event loop (async evaluators) or in a
thread (sync ones). What goes wrong with one row is recorded on that row. The evaluation fails at its end, when no score is valid or
the threshold is missed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import eval_protocol
from eval_protocol.errors import EvalProtocolError, ResultsError, UsageError
from eval_protocol.evaluation import local_ui, rollout, scoring
from eval_protocol.evaluation import progress as progress_display
from eval_protocol.evaluation.aggregation import aggregate, verdict
from eval_protocol.evaluation.experiments import Experiment, experiments, load_rows, override, public_params
from eval_protocol.evaluation.progress import Progress
from eval_protocol.evaluation.report import (
    EvaluationReport,
    ExperimentReport,
    results_box,
    score_lines,
    summary_lines,
    write_summaries,
)
from eval_protocol.evaluation.spec import EvaluationSpec, threshold_of
from eval_protocol.models import EvalMetadata, EvaluationRow, ExecutionMetadata, Status
from eval_protocol.models.ids import new_id
from eval_protocol.results import ResultsStore
from eval_protocol.results.capture import keeping_lines
from eval_protocol.results.export import export_experiment
from eval_protocol.rollouts import ExceptionHandlerConfig, RolloutProcessorConfig
from eval_protocol.rollouts.processor import RolloutProcessor, RowLogger
from eval_protocol.settings import RunSettings
from eval_protocol.tracing.filters import rollout_logging_context

MOST_THREADS = 128
"""Threads for sync evaluators, whatever max_concurrent_evaluations says."""


@dataclass(frozen=True)
class Work:
    """What the coroutines of one experiment share."""

    spec: EvaluationSpec
    experiment: Experiment
    invocation_id: str
    experiment_id: str
    processor: RolloutProcessor
    config: RolloutProcessorConfig
    evaluations: asyncio.Semaphore
    offload: ThreadPoolExecutor | None
    logger: RowLogger
    progress: Progress
    reraise: bool


async def run_evaluation(
    spec: EvaluationSpec,
    settings: RunSettings | None = None,
    *,
    invocation_id: str | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Run all experiments of an evaluation, one after another.

    Args:
        settings: the environment's overrides; None = read them now.
        invocation_id: None = `EP_INVOCATION_ID`, else a new one.
        progress: None = none shown.

    Raises:
        UsageError, DatasetError: before any model call. Failed rollouts and scores never raise.
    """
    settings = settings or RunSettings.from_environment()
    spec = override(spec, settings)
    invocation = invocation_id or settings.invocation_id or new_id()
    reports = [
        await run_experiment(spec, experiment, settings, invocation_id=invocation, progress=progress)
        for experiment in experiments(spec, settings)
    ]
    return EvaluationReport(invocation, tuple(reports))


async def run_experiment(
    spec: EvaluationSpec,
    experiment: Experiment,
    settings: RunSettings,
    *,
    invocation_id: str,
    progress: Progress | None = None,
) -> ExperimentReport:
    """Run one experiment of an evaluation that `override` was applied to.

    Raises:
        UsageError, DatasetError, ResultsError: before any model call.
    """
    started = time.perf_counter()
    parameters = spec.parameters
    rows = load_rows(spec, experiment)
    notes: list[str] = []
    store = None if parameters.logger is not None else ResultsStore(settings.results_db)
    logger = parameters.logger or store
    assert logger is not None
    try:
        work = _work(spec, experiment, invocation_id, logger, progress or progress_display.Silent(), settings)
        with keeping_lines(store.log_line) if store is not None else nullcontext():
            runs = await _run_all(work, rows)
        result = aggregate(runs, parameters.aggregation_method)
        backoff = work.config.exception_handler_config.backoff_config
        report = ExperimentReport(
            name=spec.name,
            label=experiment.label,
            invocation_id=invocation_id,
            experiment_id=work.experiment_id,
            completion_params=public_params(experiment.completion_params),
            runs=tuple(tuple(run) for run in runs),
            result=result,
            threshold=parameters.passed_threshold,
            failure=verdict(result, parameters.passed_threshold, failed_is_fatal=backoff.raise_on_giveup),
            seconds=time.perf_counter() - started,
            mode=parameters.mode,
        )
        _write_back(report, logger)
    finally:
        if store is not None:
            # Scores must not be lost to a full disk: what the store could not keep is said beside them.
            try:
                await asyncio.to_thread(store.close)
            except ResultsError as error:
                notes.append(str(error))
    if settings.output_dir is not None:
        export_experiment(settings.output_dir, work.experiment_id, report.rows)
    return replace(report, notes=tuple(notes))


def _work(
    spec: EvaluationSpec,
    experiment: Experiment,
    invocation_id: str,
    logger: RowLogger,
    progress: Progress,
    settings: RunSettings,
) -> Work:
    parameters = spec.parameters
    return Work(
        spec=spec,
        experiment=experiment,
        invocation_id=invocation_id,
        experiment_id=new_id(),
        processor=parameters.processor(),
        config=rollout_config(spec, experiment.completion_params, parameters.max_concurrent_rollouts, logger),
        evaluations=asyncio.Semaphore(parameters.max_concurrent_evaluations),
        offload=None if spec.is_async else _threads(parameters.max_concurrent_evaluations),
        logger=logger,
        progress=progress,
        reraise=settings.raise_eval_exceptions,
    )


def rollout_config(
    spec: EvaluationSpec, completion_params: dict[str, Any], max_concurrent: int, logger: RowLogger | None
) -> RolloutProcessorConfig:
    """What the evaluation's processor gets."""
    parameters = spec.parameters
    return RolloutProcessorConfig(
        completion_params=completion_params,
        semaphore=asyncio.Semaphore(max_concurrent),
        mcp_config_path=parameters.mcp_config_path,
        server_script_path=parameters.server_script_path,
        steps=parameters.steps,
        logger=logger,
        kwargs=dict(parameters.rollout_processor_kwargs or {}),
        exception_handler_config=parameters.exception_handler_config or ExceptionHandlerConfig(),
    )


def _threads(wanted: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(wanted, MOST_THREADS), thread_name_prefix="evaluator")


async def _run_all(work: Work, rows: list[EvaluationRow]) -> list[list[EvaluationRow]]:
    num_runs = work.spec.parameters.num_runs
    async with AsyncExitStack() as stack:
        if work.offload is not None:
            stack.callback(work.offload.shutdown, wait=False, cancel_futures=True)
        work.progress.begin(num_runs, len(rows))
        stack.callback(work.progress.end)
        work.processor.setup()
        stack.push_async_callback(work.processor.acleanup)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_run_once(work, rows, run)) for run in range(num_runs)]
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        return [task.result() for task in tasks]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run_once(work: Work, rows: list[EvaluationRow], run: int) -> list[EvaluationRow]:
    """One rollout and one score for every row."""
    run_id = new_id()
    ids = [new_id() for _ in rows]

    def fresh(place: int) -> EvaluationRow:
        return _begin(work, rows[place], run_id, ids[place])

    begun = [fresh(place) for place in range(len(rows))]
    for row in begun:
        work.logger.log(row)
    tasks = rollout.start(work.processor, begun, work.config)
    try:
        async with asyncio.TaskGroup() as group:
            done = [
                group.create_task(_one(work, run, row, task, lambda place=place: fresh(place)))
                for place, (row, task) in enumerate(zip(begun, tasks, strict=True))
            ]
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() for task in done]


def _begin(work: Work, source: EvaluationRow, run_id: str, rollout_id: str) -> EvaluationRow:
    """A copy of a dataset's row, ready for its rollout."""
    row = source.model_copy(deep=True)
    parameters = work.spec.parameters
    row.created_at = datetime.now(UTC)
    row.pid = os.getpid()
    row.rollout_status = Status.rollout_running()
    row.input_metadata.completion_params = public_params(work.experiment.completion_params)
    row.execution_metadata = ExecutionMetadata(
        invocation_id=work.invocation_id,
        experiment_id=work.experiment_id,
        run_id=run_id,
        rollout_id=rollout_id,
        extra=row.execution_metadata.extra,
    )
    row.eval_metadata = EvalMetadata(
        name=work.spec.name,
        description=work.spec.description,
        version=eval_protocol.__version__,
        status=Status.eval_running(),
        num_runs=parameters.num_runs,
        aggregation_method=parameters.aggregation_method,
        passed_threshold=parameters.passed_threshold,
    )
    return row


async def _one(
    work: Work, run: int, row: EvaluationRow, task: rollout.RowTask, fresh: Callable[[], EvaluationRow]
) -> EvaluationRow:
    first_id = row.execution_metadata.rollout_id
    row = await rollout.settle(work.processor, row, task, fresh, work.config)
    work.progress.rollout_done(run)
    if row.execution_metadata.rollout_id != first_id and isinstance(work.logger, ResultsStore):
        work.logger.log(row, replaces=first_id)  # the first try's row, shown as running until now
    else:
        work.logger.log(row)
    failed = row.rollout_status.is_error()
    if not failed:
        ids = row.execution_metadata
        with rollout_logging_context(ids.rollout_id or "", experiment_id=ids.experiment_id, run_id=ids.run_id):
            async with work.evaluations:
                row = await scoring.score(
                    work.spec.function, row, work.experiment.kwargs, offload=work.offload, reraise=work.reraise
                )
        work.logger.log(row)
    work.progress.evaluation_done(run, failed=failed)
    return row


def _write_back(report: ExperimentReport, logger: RowLogger) -> None:
    """Every row learns how its experiment ended."""
    score = report.result.score
    for row in report.rows:
        row.execution_metadata.experiment_duration_seconds = report.seconds
        if row.evaluation_result is not None and score is not None:
            row.evaluation_result.agg_score = score.value
            row.evaluation_result.standard_error = score.standard_error
        if row.eval_metadata is not None:
            row.eval_metadata.passed = report.passed
            if row.eval_metadata.status is not None and row.eval_metadata.status.is_running():
                failed = row.rollout_status.is_error()
                row.eval_metadata.status = (
                    Status.error("Not scored: the rollout failed.") if failed else Status.eval_finished()
                )
        logger.log(row)


def run_blocking(spec: EvaluationSpec, **overrides: Any) -> EvaluationReport:
    """Run an evaluation from ordinary code and print its results: `fn.run(max_dataset_rows=5)`.

    Args:
        overrides: fields of `RunSettings`; they win over the environment.

    Raises:
        UsageError: an override that does not exist or does not fit; DatasetError: no rows to run on.
    """
    settings = settings_with(overrides)
    report = asyncio.run(run_evaluation(spec, settings, progress=progress_display.for_stream()))
    for line in closing_lines(report.experiments, settings):
        print(line)
    return report


def settings_with(overrides: dict[str, Any]) -> RunSettings:
    """The environment's settings with these on top. Raises UsageError for a name or value that does not fit."""
    settings = RunSettings.from_environment()
    if unknown := set(overrides) - set(RunSettings.model_fields):
        known = ", ".join(RunSettings.model_fields)
        raise UsageError(f"run() does not know {sorted(unknown)[0]!r}; there are {known}.")
    if "passed_threshold" in overrides:
        threshold = threshold_of(overrides["passed_threshold"])
        overrides = {**overrides, "passed_threshold": threshold.model_dump() if threshold else None}
    return RunSettings.model_validate({**settings.model_dump(), **overrides})


def closing_lines(reports: tuple[ExperimentReport, ...] | list[ExperimentReport], settings: RunSettings) -> list[str]:
    """Write what the settings ask for, and say how it went: the score of each experiment, then the box."""
    lines: list[str] = []
    for report in reports:
        lines += score_lines(report)
    if settings.summary_json is not None:
        lines += [f"Summary written to {path}" for path in write_summaries(settings.summary_json, list(reports))]
    if settings.print_summary:
        for report in reports:
            print("\n".join(summary_lines(report)), file=sys.stderr)
    return lines + results_box((report.invocation_id for report in reports), settings)


def run_as_program(spec: EvaluationSpec) -> int:
    """Run an evaluation as a script's main program. Returns the exit code: 0 passed, 1 failed, 2 could not be run."""
    try:
        settings = RunSettings.from_environment()
        invocation_id = settings.invocation_id or new_id()
        for line in local_ui.open_once(spec, settings, invocation_id):
            print(line)
        report = asyncio.run(
            run_evaluation(spec, settings, invocation_id=invocation_id, progress=progress_display.for_stream())
        )
        print("PASSED" if report.passed else "FAILED")
        for line in closing_lines(report.experiments, settings):
            print(line)
    except EvalProtocolError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was done is in the results store.", file=sys.stderr)
        return 130
    return 0 if report.passed else 1
