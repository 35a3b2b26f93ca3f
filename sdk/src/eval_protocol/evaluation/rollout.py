"""Driving a rollout processor: a failure is recorded on its row, tried again where that helps, and never ends a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from eval_protocol.errors import RolloutError
from eval_protocol.models import EvaluationRow, Status
from eval_protocol.models.status import Code
from eval_protocol.rollouts.processor import RolloutProcessor, RolloutProcessorConfig
from eval_protocol.rollouts.retries import error_from, status_for
from eval_protocol.tracing.filters import rollout_logging_context

RowTask = asyncio.Task[EvaluationRow]


def start(processor: RolloutProcessor, rows: Sequence[EvaluationRow], config: RolloutProcessorConfig) -> list[RowTask]:
    """Call the processor; when it cannot even start, every task fails with its exception."""
    name = type(processor).__name__
    try:
        tasks = list(processor(_Marking(rows), config))
        if len(tasks) != len(rows):
            for task in tasks:
                task.cancel()
            raise RolloutError(f"{name} returned {len(tasks)} tasks for {len(rows)} rows; it must return one per row.")
    except Exception as error:  # noqa: BLE001 - user code: a processor that raises costs its rows, not the run
        return [asyncio.ensure_future(_failing(error)) for _ in rows]
    return [asyncio.ensure_future(task) for task in tasks]


class _Marking(list[EvaluationRow]):
    """The rows, each making its rollout the active one while a processor's loop is at it.

    A task takes the context that it was created in, so what a rollout logs is known to be its own, whatever the processor. After the
    last row nothing is active: a processor that creates its tasks elsewhere only loses that.
    """

    def __iter__(self) -> Iterator[EvaluationRow]:
        for row in super().__iter__():
            ids = row.execution_metadata
            with rollout_logging_context(ids.rollout_id or "", experiment_id=ids.experiment_id, run_id=ids.run_id):
                yield row


async def _failing(error: Exception) -> EvaluationRow:
    raise error


async def settle(
    processor: RolloutProcessor,
    row: EvaluationRow,
    task: RowTask,
    fresh: Callable[[], EvaluationRow],
    config: RolloutProcessorConfig,
) -> EvaluationRow:
    """Wait for one rollout, trying again as the config's `exception_handler_config` says.

    Every try has a rollout id of its own: what an earlier one still does (a zombie's model calls, a late status) is not taken for this
    one's. New try n is called `{first id}-t{n}`.

    Args:
        row: the row that was handed to the processor: it keeps what a failed rollout got to.
        task: the first try.
        fresh: makes the row as it was before, for another try.

    Returns:
        the row of the last try with a final status: finished, or an error.
    """
    handler = config.exception_handler_config
    backoff = handler.backoff_config
    first_id = row.execution_metadata.rollout_id
    started = time.perf_counter()
    tries = 1
    while True:
        error = await _outcome(task)
        if error is None:
            return _finished(task.result(), row, time.perf_counter() - started)
        if tries > backoff.max_tries or not handler.is_retryable(error):
            return _failed(row, error, tries, time.perf_counter() - started)
        await asyncio.sleep(backoff.delay(tries, getattr(error, "retry_after", None)))
        row = fresh()
        row.execution_metadata.rollout_id = f"{first_id}-t{tries}"
        tries += 1
        task = start(processor, [row], config)[0]


async def _outcome(task: RowTask) -> Exception | None:
    """None when the rollout worked, else why not."""
    try:
        row = await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return RolloutError("The rollout was cancelled by its processor.", code=Code.CANCELLED)
    except Exception as error:  # noqa: BLE001 - user code: a bad rollout is data, not a crash
        return error
    if not isinstance(row, EvaluationRow):
        return RolloutError(f"The rollout processor returned {type(row).__name__} instead of an EvaluationRow.")
    return error_from(row.rollout_status) if row.rollout_status.is_error() else None


def _finished(row: EvaluationRow, asked: EvaluationRow, seconds: float) -> EvaluationRow:
    keep_ids(row, asked)
    if row.rollout_status.is_running():
        row.rollout_status = Status.rollout_finished()
    if row.execution_metadata.rollout_duration_seconds is None:
        row.execution_metadata.rollout_duration_seconds = seconds
    return row


def _failed(row: EvaluationRow, error: Exception, tries: int, seconds: float) -> EvaluationRow:
    status = status_for(error)
    row.rollout_status = Status.of(status.code, status.message, extra_info={"tries": tries})
    row.execution_metadata.rollout_duration_seconds = seconds
    return row


def keep_ids(row: EvaluationRow, asked: EvaluationRow) -> None:
    """User code may hand back another row object: the five ids stay those of the row that was asked for."""
    if row is asked:
        return
    ours, theirs = asked.execution_metadata, row.execution_metadata
    theirs.invocation_id, theirs.experiment_id = ours.invocation_id, ours.experiment_id
    theirs.rollout_id, theirs.run_id = ours.rollout_id, ours.run_id
    row.input_metadata.row_id = asked.input_metadata.row_id
    row.pid = asked.pid
