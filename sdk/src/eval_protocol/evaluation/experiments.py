"""From an evaluation to its experiments (one per parametrization), and from an experiment to its rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eval_protocol.datasets import adapt_rows, default_dataset_adapter, load_jsonl, resolve_dataset_path
from eval_protocol.datasets.adapters import role_problem
from eval_protocol.errors import DatasetError, EvalProtocolError, UsageError
from eval_protocol.evaluation.spec import EPParameters, EvaluationSpec, threshold_of
from eval_protocol.models import CompletionParams, EvaluationRow
from eval_protocol.rollouts import ExceptionHandlerConfig, NoOpRolloutProcessor
from eval_protocol.settings import RunSettings

SECRET_NAMES = frozenset({"authorization", "password", "secret", "token", "access_token", "auth_token"})
SECRET_ENDINGS = ("api_key", "api-key", "apikey", "_secret", "_token", "-token")
REDACTED = "***"


@dataclass(frozen=True)
class Experiment:
    """One parametrization: these parameters on these rows."""

    completion_params: CompletionParams
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the evaluator."""
    datasets: tuple[str, ...] = ()
    rows: tuple[EvaluationRow, ...] | None = None
    """Rows given in the code; None = they come from `datasets`."""
    label: str = ""
    """What tells it from the evaluation's other experiments. Free of secrets."""


def override(spec: EvaluationSpec, settings: RunSettings) -> EvaluationSpec:
    """The evaluation as this run's settings want it. They win over the decorator."""
    parameters, changes = spec.parameters, dict[str, Any]()
    for name in ("num_runs", "max_concurrent_rollouts", "max_concurrent_evaluations"):
        value = getattr(settings, name)
        if value is not None:
            if value < 1:
                raise UsageError(f"EP_{name.upper()} is {value}; it must be at least 1.")
            changes[name] = value
    if settings.max_dataset_rows is not None:
        limit = None if settings.max_dataset_rows == "all" else settings.max_dataset_rows
        if limit is not None and limit < 1:
            raise UsageError(f"EP_MAX_DATASET_ROWS is {limit}; it must be at least 1, or `all`.")
        changes["max_dataset_rows"] = limit
    if settings.passed_threshold is not None:
        changes["passed_threshold"] = threshold_of(settings.passed_threshold)
    if settings.use_no_op_rollout_processor:
        changes["rollout_processor"] = NoOpRolloutProcessor()
    changes["completion_params"] = tuple(
        _merge(params or {}, settings.input_params or {}) or None
        for params in settings.completion_params or parameters.completion_params
    )
    if settings.max_retry is not None or settings.fail_on_max_retry is not None:
        changes["exception_handler_config"] = _retries(parameters, settings)
    return replace(spec, parameters=replace(parameters, **changes))


def _retries(parameters: EPParameters, settings: RunSettings) -> ExceptionHandlerConfig:
    config = parameters.exception_handler_config or ExceptionHandlerConfig()
    backoff = config.backoff_config
    if settings.max_retry is not None:
        backoff = replace(backoff, max_tries=settings.max_retry)
    if settings.fail_on_max_retry is not None:
        backoff = replace(backoff, raise_on_giveup=settings.fail_on_max_retry)
    return replace(config, backoff_config=backoff)


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def experiments(spec: EvaluationSpec, settings: RunSettings | None = None) -> list[Experiment]:
    """All parametrizations: completion_params x evaluation_test_kwargs x sources of rows."""
    parameters = spec.parameters
    found = []
    for params, kwargs, source in itertools.product(
        parameters.completion_params, parameters.evaluation_test_kwargs, _sources(spec, settings)
    ):
        found.append(Experiment(completion_params=dict(params or {}), kwargs=dict(kwargs or {}), **source))
    varies = {
        name: any(getattr(experiment, name) != getattr(found[0], name) for experiment in found)
        for name in ("completion_params", "kwargs", "datasets")
    }
    labels = [_label(experiment, varies) for experiment in found]
    return [
        replace(experiment, label=label if labels.count(label) == 1 else f"{label}-{place}".lstrip("-"))
        for place, (experiment, label) in enumerate(zip(found, labels, strict=True))
    ]


def _sources(spec: EvaluationSpec, settings: RunSettings | None) -> list[dict[str, Any]]:
    parameters = spec.parameters
    if settings is not None and settings.jsonl_path is not None:
        return [{"datasets": (str(settings.jsonl_path),)}]
    if parameters.input_dataset:
        paths = tuple(resolve_dataset_path(path, spec.file) for path in parameters.input_dataset)
        return [{"datasets": paths}] if parameters.combine_datasets else [{"datasets": (path,)} for path in paths]
    if parameters.input_rows:
        return [{"rows": tuple(rows)} for rows in parameters.input_rows]
    if parameters.input_messages:
        return [
            {"rows": tuple(EvaluationRow.model_validate({"messages": messages}) for messages in conversations)}
            for conversations in parameters.input_messages
        ]
    return [{}]


def _label(experiment: Experiment, varies: dict[str, bool]) -> str:
    """The model, and of the rest only what differs between the evaluation's experiments."""
    parts = [str(experiment.completion_params.get("model", ""))]
    if varies["completion_params"]:
        shown = {key: value for key, value in public_params(experiment.completion_params).items() if key != "model"}
        parts += [f"{key}={value}" for key, value in sorted(shown.items()) if isinstance(value, str | int | float)]
    if varies["kwargs"]:
        parts += [f"{key}={value}" for key, value in public_params(experiment.kwargs).items()]
    if varies["datasets"]:
        parts += [path.rsplit("/", 1)[-1] for path in experiment.datasets]
    return ":".join(part for part in parts if part)


def public_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with every secret replaced: what may be stored, shown and printed."""
    public = dict[str, Any]()
    for key, value in params.items():
        name = str(key).lower()
        if name in SECRET_NAMES or name.endswith(SECRET_ENDINGS):
            public[key] = REDACTED
        elif isinstance(value, Mapping):
            public[key] = public_params(value)
        else:
            public[key] = value
    return public


def load_rows(spec: EvaluationSpec, experiment: Experiment) -> list[EvaluationRow]:
    """The rows of an experiment: read, adapted, preprocessed, named, filtered and cut, in this order.

    `max_dataset_rows` cuts before the adapter, unless rows are filtered: then after the filter.

    Raises:
        DatasetError: nothing to read, a broken line (numbered), or no row left.
    """
    parameters = spec.parameters
    filtered = parameters.filtered_row_ids is not None
    limit = None if filtered else parameters.max_dataset_rows
    if experiment.rows is not None:
        rows = [row.model_copy(deep=True) for row in experiment.rows[:limit]]
    elif experiment.datasets:
        rows = adapt_rows(parameters.dataset_adapter, _read(parameters, experiment.datasets, limit))
    else:
        raise DatasetError(
            f"{spec.name} has no rows: give it input_dataset, input_rows or input_messages, or set EP_JSONL_PATH."
        )
    rows = preprocess(spec, rows)
    for row in rows:
        row.ensure_row_id()
    if filtered:
        wanted = set(parameters.filtered_row_ids or ())
        rows = [row for row in rows if row.input_metadata.row_id in wanted][: parameters.max_dataset_rows]
    if not rows:
        raise DatasetError(f"{spec.name} has no rows left to run{' after filtered_row_ids' if filtered else ''}.")
    return rows


def preprocess(spec: EvaluationSpec, rows: list[EvaluationRow]) -> list[EvaluationRow]:
    """Apply the evaluation's `preprocess_fn`, if it has one. Raises DatasetError when that fails."""
    function = spec.parameters.preprocess_fn
    if function is None:
        return rows
    try:
        return list(function(rows))
    except EvalProtocolError:
        raise
    except Exception as error:
        raise DatasetError(f"preprocess_fn of {spec.name} failed: {type(error).__name__}: {error}.") from error


def _read(parameters: EPParameters, paths: tuple[str, ...], limit: int | None) -> list[dict[str, Any]]:
    # Rows for an adapter of the author's own may look as they like; they are checked after it.
    check = role_problem if parameters.dataset_adapter is default_dataset_adapter else None
    raw: list[dict[str, Any]] = []
    for path in paths:
        left = None if limit is None else limit - len(raw)
        if left == 0:
            break
        raw += load_jsonl(path, left, check)
    return raw
