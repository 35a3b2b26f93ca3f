"""Calling an evaluator on one row, and deciding whether what it gave is a score.

The same code serves the local runner and the evaluator host: an exception, a wrong return value, NaN or a number outside 0..1 becomes
an invalid score with a reason, never a zero.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import numbers
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from eval_protocol.evaluation.rollout import keep_ids
from eval_protocol.models import EvaluateResult, EvaluationRow, Status

OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
Evaluator = Callable[..., Any]


class _Unset(EvaluateResult):
    """Stands in `row.evaluation_result` while the evaluator runs, so that `row.evaluation_result.score = x` works."""


class WrongReturn(TypeError):
    """The evaluator returned something that is no score."""


async def call(
    function: Evaluator, row: EvaluationRow, kwargs: dict[str, Any] | None = None, *, offload: Executor | None = None
) -> EvaluationRow:
    """Run the evaluator's body on one row and put its result on the row.

    The body may return the row with `evaluation_result` set, an EvaluateResult, or a number.

    Args:
        offload: where sync bodies run; None = right here.

    Raises:
        WrongReturn: anything else came back. What the body raises passes through.
    """
    placeholder = None
    if row.evaluation_result is None:
        placeholder = row.evaluation_result = _Unset.model_construct(score=math.nan, is_score_valid=True, metrics={})
    body = partial(function, row=row, **(kwargs or {}))
    try:
        if inspect.iscoroutinefunction(function):
            returned = await body()
        elif offload is None:
            returned = body()
        else:
            context = contextvars.copy_context()  # so that what the body logs is known to be this rollout's
            returned = await asyncio.get_running_loop().run_in_executor(offload, lambda: context.run(_shielded, body))
            if isinstance(returned, _Raised):
                raise returned.error
        if inspect.isawaitable(returned):
            returned = await returned
        return _taken(row, returned)
    finally:
        if placeholder is not None and row.evaluation_result is placeholder:
            row.evaluation_result = _settled(placeholder)


class _Raised:
    """What a body raised in its thread. A future cannot carry StopIteration or SystemExit safely."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _shielded(body: Callable[[], Any]) -> Any:
    try:
        return body()
    except BaseException as error:  # noqa: BLE001 - handed to the caller, which raises it
        return _Raised(error)


def _taken(row: EvaluationRow, returned: Any) -> EvaluationRow:
    if isinstance(returned, EvaluationRow):
        keep_ids(returned, row)
        if isinstance(returned.evaluation_result, _Unset):
            returned.evaluation_result = _settled(returned.evaluation_result)
        if returned.evaluation_result is None:
            raise WrongReturn("The evaluator returned the row without an evaluation_result; set it before returning.")
        return returned
    if isinstance(returned, EvaluateResult):
        row.evaluation_result = returned
        return row
    if isinstance(returned, numbers.Real):
        row.evaluation_result = EvaluateResult(score=float(returned))
        return row
    if returned is None:
        raise WrongReturn("The evaluator returned None instead of the row; does it lack a `return row`?")
    raise WrongReturn(
        f"The evaluator returned {type(returned).__name__} instead of the row, an EvaluateResult or a number."
    )


def _settled(result: EvaluateResult) -> EvaluateResult | None:
    """The placeholder as a plain result when the body wrote a score into it, else None."""
    if not isinstance(result, _Unset):
        return result
    if isinstance(result.score, float) and math.isnan(result.score):
        return None
    return EvaluateResult.model_construct(**{name: getattr(result, name, None) for name in EvaluateResult.model_fields})


async def score(
    function: Evaluator,
    row: EvaluationRow,
    kwargs: dict[str, Any] | None = None,
    *,
    offload: Executor | None = None,
    reraise: bool = False,
) -> EvaluationRow:
    """Score one row; whatever goes wrong becomes an invalid score with a reason.

    Args:
        reraise: let the evaluator's exceptions through (`EP_RAISE_EVAL_EXCEPTIONS`).
    """
    started = time.perf_counter()
    try:
        row = await call(function, row, kwargs, offload=offload)
        problem = problem_with(row.evaluation_result)
        if problem:
            row = invalidate(row, problem)
    except (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
        raise
    except WrongReturn as error:
        row = invalidate(row, str(error))
    except BaseException as error:
        if reraise:
            raise
        row = invalidate(row, describe(error), error=f"{type(error).__name__}: {error}")
    row.execution_metadata.eval_duration_seconds = time.perf_counter() - started
    return row


def problem_with(result: EvaluateResult | None) -> str | None:
    """Why this is no usable score, or None. A score that the evaluator itself marked invalid is no problem: it says so already."""
    if result is None:
        return "The evaluator set no evaluation_result."
    value = result.score
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"The score is {value!r}, not a number."
    if not result.is_score_valid:
        return None
    if not math.isfinite(value):
        return f"The score is {float(value)}, not a finite number."
    if not 0 <= value <= 1:
        return f"The score is {float(value):g}; it must lie between 0 and 1."
    return None


def invalidate(row: EvaluationRow, reason: str, *, error: str | None = None) -> EvaluationRow:
    """Put an invalid score with its reason on the row; metrics that the evaluator gave are kept."""
    given = row.evaluation_result
    row.evaluation_result = EvaluateResult(
        score=0.0,
        is_score_valid=False,
        reason=reason,
        metrics=given.metrics if given is not None and error is None else {},
        error=error,
    )
    if row.eval_metadata is not None:
        row.eval_metadata.status = Status.error(reason) if error else Status.score_invalid(reason)
    return row


def describe(error: BaseException) -> str:
    """`Error during evaluation: ValueError: text (evaluation.py:41)`, the place being the last one in user code."""
    place = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(OWN_FOLDER):
            place = f" ({os.path.basename(frame.filename)}:{frame.lineno})"
            break
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"Error during evaluation: {text}{place}"
