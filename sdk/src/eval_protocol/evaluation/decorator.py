"""`@evaluation_test`: turns a scoring function into an evaluation.

The decorated function stays callable: `await fn(row)` scores one row. Besides that it carries

    fn.run(**overrides)   run the evaluation here and now -> EvaluationReport
    fn.main()             run it, print PASSED or FAILED, end the process with 0 or 1 (for `if __name__ == "__main__":`)
    fn.__ep_params__      the decorator's arguments (EPParameters)
    fn.__ep_spec__        function and arguments (EvaluationSpec)
    fn._origin_func       the undecorated function
    fn._metainfo          {"mode", "max_rollout_concurrency", "max_evaluation_concurrency"}
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from eval_protocol.datasets.adapters import DatasetAdapter, default_dataset_adapter
from eval_protocol.errors import UsageError
from eval_protocol.evaluation.spec import (
    AggregationMethod,
    EPParameters,
    EvaluationSpec,
    Mode,
    Threshold,
    check,
    threshold_of,
)
from eval_protocol.models import CompletionParams, EvaluationRow, Message
from eval_protocol.rollouts import ExceptionHandlerConfig, RolloutProcessor
from eval_protocol.rollouts.processor import RowLogger

if TYPE_CHECKING:
    from eval_protocol.evaluation.report import EvaluationReport


class EvaluationFunction(Protocol):
    """What the decorator gives back."""

    __name__: str
    __ep_spec__: EvaluationSpec
    __ep_params__: EPParameters
    _origin_func: Callable[..., Any]
    _metainfo: dict[str, Any]

    async def __call__(self, row: EvaluationRow, **kwargs: Any) -> EvaluationRow:
        """Score one row."""
        ...

    def run(self, **overrides: Any) -> EvaluationReport:
        """Run the evaluation."""
        ...

    def main(self) -> NoReturn:
        """Run it as a program."""
        ...


def evaluation_test(
    *,
    completion_params: Sequence[CompletionParams | None] | None = None,
    input_messages: Sequence[list[list[Message]]] | None = None,
    input_dataset: Sequence[str] | None = None,
    input_rows: Sequence[list[EvaluationRow]] | None = None,
    data_loaders: Any = None,
    dataset_adapter: DatasetAdapter = default_dataset_adapter,
    rollout_processor: RolloutProcessor | None = None,
    evaluation_test_kwargs: Sequence[dict[str, Any] | None] | None = None,
    rollout_processor_kwargs: dict[str, Any] | None = None,
    aggregation_method: AggregationMethod = "mean",
    passed_threshold: Threshold | None = None,
    disable_browser_open: bool = False,
    num_runs: int = 1,
    filtered_row_ids: Sequence[str] | None = None,
    max_dataset_rows: int | None = None,
    mcp_config_path: str | None = None,
    max_concurrent_rollouts: int = 96,
    max_concurrent_evaluations: int = 96,
    server_script_path: str | None = None,
    steps: int = 30,
    mode: Mode = "pointwise",
    combine_datasets: bool = True,
    preprocess_fn: Callable[[list[EvaluationRow]], list[EvaluationRow]] | None = None,
    logger: RowLogger | None = None,
    exception_handler_config: ExceptionHandlerConfig | None = None,
) -> Callable[[Callable[..., Any]], EvaluationFunction]:
    """Make an evaluation of a function `(row: EvaluationRow) -> EvaluationRow`, sync or async.

    Args:
        completion_params: one dict (model, temperature, max_tokens, api_base, extra_body, ...) per experiment; None: no model.
        input_messages: per experiment, a list of message lists, one per row.
        input_dataset: JSONL paths (beside the test file or under the working directory) or URLs.
        input_rows: per experiment, a list of rows.
        data_loaders: not built yet.
        dataset_adapter: from the objects of the JSONL to rows; default: they are rows already.
        rollout_processor: how a row becomes a trajectory; default: one model call.
        evaluation_test_kwargs: per experiment, further arguments of the function.
        rollout_processor_kwargs: `config.kwargs` of the processor.
        aggregation_method: mean; max or min over the runs' means; bootstrap (mean and standard error over resampled rows, seeded).
        passed_threshold: a number, or `{"success": .., "standard_error": ..}`; None: passes when anything is valid.
        disable_browser_open: True keeps a run from opening its rollouts in a browser where an `ep logs` is open.
        num_runs: rollouts per row.
        filtered_row_ids: only rows with these ids (given in the data, or made from the content).
        max_dataset_rows: only the first so many rows.
        mcp_config_path: for processors that read it.
        max_concurrent_rollouts: rollouts at work at once, over all runs.
        max_concurrent_evaluations: evaluator calls at work at once, over all runs. Sync functions run in as many threads.
        server_script_path: for processors that read it.
        steps: step limit, for processors that read it.
        mode: "pointwise"; "groupwise" and "all" are not built yet.
        combine_datasets: False makes each path of `input_dataset` an experiment of its own.
        preprocess_fn: rows in, rows out, before ids are given.
        logger: object with `log(row)`, in place of the local results store.
        exception_handler_config: which failed rollouts are tried again, and when.

    Raises:
        UsageError: at decoration, for what cannot work.
    """
    given = dict(locals())

    def normal(name: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        value = given[name]
        if value is None:
            return default
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UsageError(f"{name} must be a list, not {type(value).__name__}.")
        return tuple(value)

    parameters = EPParameters(
        **{
            **given,
            "completion_params": normal("completion_params", (None,)) or (None,),
            "input_messages": normal("input_messages", ()),
            "input_dataset": tuple(str(path) for path in normal("input_dataset", ())),
            "input_rows": normal("input_rows", ()),
            "evaluation_test_kwargs": normal("evaluation_test_kwargs", (None,)) or (None,),
            "filtered_row_ids": None if filtered_row_ids is None else normal("filtered_row_ids", ()),
            "passed_threshold": threshold_of(passed_threshold),
        }
    )

    def decorate(function: Callable[..., Any]) -> EvaluationFunction:
        return _wrap(check(function, parameters))

    return decorate


def _wrap(spec: EvaluationSpec) -> EvaluationFunction:
    from eval_protocol.evaluation import runner, scoring  # noqa: PLC0415 - asyncio and statistics, once it is really used

    @functools.wraps(spec.function)
    async def scored(row: EvaluationRow, **kwargs: Any) -> EvaluationRow:
        return await scoring.call(spec.function, row, kwargs)

    def run(**overrides: Any) -> EvaluationReport:
        return runner.run_blocking(spec_of(scored), **overrides)

    def main() -> NoReturn:
        sys.exit(runner.run_as_program(spec_of(scored)))

    attributes = {
        "run": run,
        "main": main,
        "__test__": True,
        "__ep_spec__": spec,
        "__ep_params__": spec.parameters,
        "_origin_func": spec.function,
        "_metainfo": {
            "mode": spec.parameters.mode,
            "max_rollout_concurrency": spec.parameters.max_concurrent_rollouts,
            "max_evaluation_concurrency": spec.parameters.max_concurrent_evaluations,
        },
    }
    for name, value in attributes.items():
        setattr(scored, name, value)
    return cast(EvaluationFunction, scored)


def spec_of(function: Any) -> EvaluationSpec:
    """The evaluation behind a decorated function, with `@pytest.mark.parametrize("completion_params", [...])` taken in.

    Raises:
        UsageError: not a decorated function, or a parametrization that evaluations do not know.
    """
    spec = getattr(function, "__ep_spec__", None)
    if not isinstance(spec, EvaluationSpec):
        raise UsageError(f"{function!r} is not decorated with @evaluation_test.")
    for mark in getattr(function, "pytestmark", []):
        if mark.name != "parametrize":
            continue
        names, values = mark.args[0], mark.args[1]
        if names not in ("completion_params", ["completion_params"], ("completion_params",)):
            raise UsageError(
                f"{spec.name} is parametrized over {names!r}; evaluations know completion_params only. "
                "Use evaluation_test_kwargs for the rest."
            )
        if isinstance(values, dict):
            raise UsageError(f"{spec.name}: parametrize('completion_params', ...) needs a list of dicts, not one dict.")
        spec = spec.with_completion_params(
            [
                getattr(value, "values", None) and value.values[0] or value if not isinstance(value, dict) else value
                for value in values
            ]
        )
    return spec
