"""What the decorator takes, refuses and gives back."""

from __future__ import annotations

from typing import Any

import pytest
from eval_protocol.errors import NotBuiltYet, UsageError
from eval_protocol.evaluation.decorator import spec_of
from eval_protocol.evaluation.experiments import experiments, public_params
from eval_protocol.models import EvaluateResult, EvaluationRow, EvaluationThreshold, Message
from eval_protocol.pytest import NoOpRolloutProcessor, SingleTurnRolloutProcessor, evaluation_test
from eval_protocol.rollouts import RolloutProcessor


def row(text: str = "q") -> EvaluationRow:
    return EvaluationRow(messages=[Message(role="user", content=text)])


# The annotations of this file are strings (see the import above): they must work like real ones.
# Evaluations are made inside functions: at the module's level, pytest would run them.
@pytest.fixture
def sync_eval() -> Any:
    @evaluation_test(input_rows=[[row()]], rollout_processor=NoOpRolloutProcessor(), passed_threshold=1)
    def sync_eval(row: EvaluationRow, bonus: float = 0.0) -> EvaluationRow:
        """Scores by length."""
        row.evaluation_result = EvaluateResult(score=len(row.messages[0].text) / 10 + bonus)
        return row

    return sync_eval


@pytest.fixture
def async_eval() -> Any:
    @evaluation_test(input_rows=[[row()]])
    async def async_eval(row: EvaluationRow) -> EvaluationRow:
        row.evaluation_result = EvaluateResult(score=0.25)
        return row

    return async_eval


async def test_the_decorated_function_scores_a_row(sync_eval: Any, async_eval: Any):
    assert (await sync_eval(row("four"))).evaluation_result == EvaluateResult(score=0.4)
    assert (await sync_eval(row=row("four"), bonus=0.1)).evaluation_result == EvaluateResult(score=0.5)
    assert (await async_eval(row())).evaluation_result == EvaluateResult(score=0.25)


async def test_called_directly_exceptions_come_through():
    @evaluation_test(input_rows=[[row()]])
    def failing(row: EvaluationRow) -> EvaluationRow:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await failing(row())


def test_hooks_for_trainers(sync_eval: Any, async_eval: Any):
    assert sync_eval._origin_func(row("ten chars!")).evaluation_result.score == 1.0
    assert sync_eval.__name__ == "sync_eval"
    assert sync_eval.__doc__ == "Scores by length."
    parameters = sync_eval.__ep_params__
    assert isinstance(parameters.rollout_processor, NoOpRolloutProcessor)
    assert parameters.passed_threshold == EvaluationThreshold(success=1)
    assert (parameters.max_concurrent_rollouts, parameters.max_concurrent_evaluations) == (96, 96)
    assert sync_eval._metainfo == {
        "mode": "pointwise",
        "max_rollout_concurrency": 96,
        "max_evaluation_concurrency": 96,
    }
    assert isinstance(async_eval.__ep_params__.processor(), SingleTurnRolloutProcessor)


def test_all_25_parameters_are_there():
    import inspect

    assert len(inspect.signature(evaluation_test).parameters) == 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "batch"}, "pointwise, groupwise and all"),
        ({"num_runs": 0}, "num_runs"),
        ({"max_dataset_rows": 0}, "max_dataset_rows"),
        ({"aggregation_method": "median"}, "median"),
        ({"passed_threshold": 1.5}, "less than or equal to 1"),
        ({"passed_threshold": "high"}, "passed_threshold"),
        ({"passed_threshold": True}, "passed_threshold"),
        ({"passed_threshold": {"succes": 1}}, "passed_threshold"),
        ({"completion_params": {"model": "m"}}, "must be a list"),
        ({"completion_params": ["m"]}, "list of dicts"),
        ({"input_dataset": "rows.jsonl"}, "must be a list"),
        ({"input_dataset": ["rows.jsonl"], "input_rows": [[]]}, "one source|both given"),
        ({"evaluation_test_kwargs": [{"row": 1}]}, "reserved"),
        ({"evaluation_test_kwargs": [{"depth": 1}]}, "does not take"),
        ({"rollout_processor": object()}, "RolloutProcessor"),
        ({"mcp_config_path": "x.json"}, "mcp_config_path has no effect with SingleTurnRolloutProcessor"),
        ({"steps": 3}, "steps has no effect"),
        ({"rollout_processor_kwargs": {"a": 1}}, "no effect"),
    ],
)
def test_what_cannot_work_is_refused_at_once(arguments: dict[str, Any], says: str):
    with pytest.raises(UsageError, match=says):

        @evaluation_test(**{"input_rows": [[row()]], **arguments} if "input_dataset" not in arguments else arguments)
        def scored(row: EvaluationRow) -> EvaluationRow:
            return row


@pytest.mark.parametrize("arguments", [{"mode": "groupwise"}, {"mode": "all"}, {"data_loaders": object()}])
def test_what_is_not_built_says_so(arguments: dict[str, Any]):
    with pytest.raises(NotBuiltYet, match="not built yet"):

        @evaluation_test(**arguments)
        def scored(row: EvaluationRow) -> EvaluationRow:
            return row


def test_the_signature_is_checked():
    with pytest.raises(UsageError, match="needs a parameter `row"):

        @evaluation_test()
        def no_row(x: EvaluationRow) -> EvaluationRow:
            return x

    with pytest.raises(UsageError, match="annotated dict"):

        @evaluation_test()
        def wrong(row: dict) -> EvaluationRow:
            return EvaluationRow()

    with pytest.raises(UsageError, match="'depth', which nothing fills"):

        @evaluation_test()
        def unfilled(row: EvaluationRow, depth: int) -> EvaluationRow:
            return row


def test_custom_processors_may_use_everything():
    class Agent(RolloutProcessor):
        pass

    @evaluation_test(rollout_processor=Agent(), mcp_config_path="x.json", steps=3, rollout_processor_kwargs={"a": 1})
    def scored(row: EvaluationRow) -> EvaluationRow:
        return row

    assert scored.__ep_params__.steps == 3


def test_experiments_are_the_product_of_what_varies(tmp_path):
    @evaluation_test(
        input_dataset=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")],
        combine_datasets=False,
        completion_params=[{"model": "m", "temperature": 0}, {"model": "m", "temperature": 1}],
        evaluation_test_kwargs=[{"strict": True}, {"strict": False}],
    )
    def scored(row: EvaluationRow, strict: bool) -> EvaluationRow:
        return row

    found = experiments(spec_of(scored))
    assert len(found) == 8
    assert len({experiment.label for experiment in found}) == 8
    assert "temperature=1" in found[-1].label


def test_labels_never_hold_secrets():
    secret = "sk-very-secret"
    params = {
        "model": "m",
        "api_key": secret,
        "extra_headers": {"Authorization": f"Bearer {secret}", "X-Api-Key": secret},
        "max_tokens": 5,
    }

    @evaluation_test(input_rows=[[row()]], completion_params=[params, {**params, "temperature": 1}])
    def scored(row: EvaluationRow) -> EvaluationRow:
        return row

    found = experiments(spec_of(scored))
    assert all(secret not in experiment.label for experiment in found)
    assert secret not in str(public_params(params))
    assert public_params(params)["max_tokens"] == 5
    assert found[0].completion_params["api_key"] == secret


def test_parametrize_over_completion_params_is_understood():
    @pytest.mark.parametrize("completion_params", [{"model": "a"}, pytest.param({"model": "b"})])
    @evaluation_test(input_rows=[[row()]])
    def scored(row: EvaluationRow) -> EvaluationRow:
        return row

    assert [experiment.label for experiment in experiments(spec_of(scored))] == ["a", "b"]

    @pytest.mark.parametrize("depth", [1, 2])
    @evaluation_test(input_rows=[[row()]])
    def other(row: EvaluationRow) -> EvaluationRow:
        return row

    with pytest.raises(UsageError, match="depth"):
        spec_of(other)
