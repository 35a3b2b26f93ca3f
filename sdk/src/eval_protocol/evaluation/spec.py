"""What an `@evaluation_test` says, checked once when it is written down."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from eval_protocol.datasets.adapters import DatasetAdapter, default_dataset_adapter
from eval_protocol.errors import NotBuiltYet, UsageError
from eval_protocol.models import CompletionParams, EvaluationRow, EvaluationThreshold, Message
from eval_protocol.rollouts import (
    ExceptionHandlerConfig,
    NoOpRolloutProcessor,
    RolloutProcessor,
    SingleTurnRolloutProcessor,
)
from eval_protocol.rollouts.processor import RowLogger

Mode = Literal["pointwise", "groupwise", "all"]
AggregationMethod = Literal["mean", "max", "min", "bootstrap"]
Threshold = int | float | dict[str, float | None] | EvaluationThreshold
AGGREGATIONS = ("mean", "max", "min", "bootstrap")


@dataclass(frozen=True)
class EPParameters:
    """The 25 arguments of the decorator, in their normal form (`fn.__ep_params__`)."""

    completion_params: tuple[CompletionParams | None, ...] = (None,)
    input_messages: tuple[list[list[Message]], ...] = ()
    input_dataset: tuple[str, ...] = ()
    input_rows: tuple[list[EvaluationRow], ...] = ()
    data_loaders: Any = None
    dataset_adapter: DatasetAdapter = default_dataset_adapter
    rollout_processor: RolloutProcessor | None = None
    evaluation_test_kwargs: tuple[dict[str, Any] | None, ...] = (None,)
    rollout_processor_kwargs: dict[str, Any] | None = None
    aggregation_method: AggregationMethod = "mean"
    passed_threshold: EvaluationThreshold | None = None
    disable_browser_open: bool = False
    num_runs: int = 1
    filtered_row_ids: tuple[str, ...] | None = None
    max_dataset_rows: int | None = None
    mcp_config_path: str | None = None
    max_concurrent_rollouts: int = 96
    max_concurrent_evaluations: int = 96
    server_script_path: str | None = None
    steps: int = 30
    mode: Mode = "pointwise"
    combine_datasets: bool = True
    preprocess_fn: Callable[[list[EvaluationRow]], list[EvaluationRow]] | None = None
    logger: RowLogger | None = None
    exception_handler_config: ExceptionHandlerConfig | None = None

    def processor(self) -> RolloutProcessor:
        """The processor to use; single-turn when none was given."""
        return self.rollout_processor or SingleTurnRolloutProcessor()


@dataclass(frozen=True)
class EvaluationSpec:
    """One evaluation: the function and its parameters."""

    function: Callable[..., Any]
    parameters: EPParameters

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def description(self) -> str | None:
        """The function's docstring."""
        return inspect.getdoc(self.function)

    @property
    def file(self) -> Path:
        """Where it is written."""
        return Path(self.function.__code__.co_filename)

    @property
    def line(self) -> int:
        """Line of the decorator."""
        return self.function.__code__.co_firstlineno

    @property
    def is_async(self) -> bool:
        """Whether the body is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def with_completion_params(self, params: Sequence[CompletionParams | None]) -> EvaluationSpec:
        """The same evaluation with other completion_params."""
        return replace(self, parameters=replace(self.parameters, completion_params=tuple(params)))


def threshold_of(value: Threshold | None) -> EvaluationThreshold | None:
    """The normal form of `passed_threshold`.

    Raises:
        UsageError: not a number from 0 to 1, nor a dict with `success` and `standard_error`.
    """
    if value is None or isinstance(value, EvaluationThreshold):
        return value
    try:
        if isinstance(value, Mapping):
            return EvaluationThreshold.model_validate(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return EvaluationThreshold(success=value)
    except ValidationError as error:
        raise UsageError(f"passed_threshold {value!r} cannot be used: {error.errors()[0]['msg']}.") from error
    raise UsageError(
        f"passed_threshold is {value!r}; give a number from 0 to 1, or {{'success': .., 'standard_error': ..}}."
    )


def check(function: Callable[..., Any], parameters: EPParameters) -> EvaluationSpec:
    """Put function and parameters together.

    Raises:
        UsageError: something that cannot work, naming the parameter; NotBuiltYet for what comes later.
    """
    _check_features(parameters)
    _check_values(parameters)
    _check_signature(function, parameters)
    return EvaluationSpec(function, parameters)


def _check_features(parameters: EPParameters) -> None:
    if parameters.mode in ("groupwise", "all"):
        raise NotBuiltYet(f"mode={parameters.mode!r} is not built yet; use mode='pointwise'.")
    if parameters.mode != "pointwise":
        raise UsageError(f"mode={parameters.mode!r}: there are pointwise, groupwise and all.")
    if parameters.data_loaders is not None:
        raise NotBuiltYet("data_loaders is not built yet; use input_dataset, input_rows or input_messages.")
    if type(parameters.processor()) in (SingleTurnRolloutProcessor, NoOpRolloutProcessor):
        processor = type(parameters.processor()).__name__
        for name in ("mcp_config_path", "server_script_path"):
            if getattr(parameters, name) is not None:
                raise UsageError(
                    f"{name} has no effect with {processor}; leave it out or use a processor that reads it."
                )
        if parameters.rollout_processor_kwargs:
            raise UsageError(f"rollout_processor_kwargs has no effect with {processor}; leave it out.")
        if parameters.steps != EPParameters.steps:
            raise UsageError(f"steps has no effect with {processor}, which makes no loop of steps; leave it out.")


def _check_values(parameters: EPParameters) -> None:
    for name in ("num_runs", "max_concurrent_rollouts", "max_concurrent_evaluations"):
        value = getattr(parameters, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} is {value!r}; it must be a whole number of at least 1.")
    limit = parameters.max_dataset_rows
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UsageError(
            f"max_dataset_rows is {limit!r}; it must be a whole number of at least 1, or None for all rows."
        )
    if parameters.aggregation_method not in AGGREGATIONS:
        raise UsageError(
            f"aggregation_method is {parameters.aggregation_method!r}; there are {', '.join(AGGREGATIONS)}."
        )
    given = [name for name in ("input_dataset", "input_rows", "input_messages") if getattr(parameters, name)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are both given; an evaluation has one source of rows.")
    if not isinstance(parameters.processor(), RolloutProcessor):
        kind = type(parameters.rollout_processor).__name__
        raise UsageError(f"rollout_processor is a {kind}; give an instance of a RolloutProcessor.")
    for params in parameters.completion_params:
        if params is not None and not isinstance(params, Mapping):
            raise UsageError(f"completion_params must be a list of dicts; {params!r} is none.")
    for kwargs in parameters.evaluation_test_kwargs:
        if reserved := {"row", "rows"} & set(kwargs or {}):
            raise UsageError(f"evaluation_test_kwargs uses the reserved name {sorted(reserved)[0]!r}.")


def _check_signature(function: Callable[..., Any], parameters: EPParameters) -> None:
    if not inspect.isfunction(function):
        raise UsageError(f"@evaluation_test decorates functions; {function!r} is none.")
    where = f"{function.__name__} ({function.__code__.co_filename}:{function.__code__.co_firstlineno})"
    arguments = inspect.signature(function).parameters
    if "row" not in arguments:
        raise UsageError(f"{where} needs a parameter `row: EvaluationRow` in mode 'pointwise'.")
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved here says nothing about the function
        hints = {}
    for name, hint in (("row", hints.get("row")), ("return", hints.get("return"))):
        if isinstance(hint, type) and hint in (list, dict, str, set, tuple) or hint is type(None):
            shown = "its return value" if name == "return" else "`row`"
            raise UsageError(
                f"{where}: {shown} is annotated {getattr(hint, '__name__', hint)}; it must be EvaluationRow."
            )
    for kwargs in parameters.evaluation_test_kwargs:
        _check_arguments(where, arguments, set(kwargs or {}))


def _check_arguments(where: str, arguments: Mapping[str, inspect.Parameter], given: set[str]) -> None:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes_any = any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values())
    needed = {
        name
        for name, argument in arguments.items()
        if name != "row" and argument.kind in named and argument.default is inspect.Parameter.empty
    }
    if missing := needed - given:
        raise UsageError(
            f"{where} has the parameter {sorted(missing)[0]!r}, which nothing fills: give it a default or name it in "
            "evaluation_test_kwargs."
        )
    if not takes_any and (unknown := given - set(arguments)):
        raise UsageError(f"evaluation_test_kwargs names {sorted(unknown)[0]!r}, which {where} does not take.")
