"""What is known about a row besides its messages: where it came from, how it ran, which evaluation it belongs to."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eval_protocol.models.status import Status


class InputMetadata(BaseModel):
    """Where the row came from. Extra fields are kept."""

    model_config = ConfigDict(extra="allow")

    row_id: str | None = None
    completion_params: dict[str, Any] = {}
    """Sampling parameters of the experiment, secrets replaced."""
    dataset_info: dict[str, Any] | None = None
    session_data: dict[str, Any] | None = None


class CompletionUsage(BaseModel):
    """Tokens of the model calls. Extra fields (cached, reasoning tokens) are kept."""

    model_config = ConfigDict(extra="allow")

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class CostMetrics(BaseModel):
    """US dollars; None where the price is not known."""

    input_cost: float | None = None
    output_cost: float | None = None
    total_cost_dollar: float | None = None


class ExecutionMetadata(BaseModel):
    """Ids, usage and timings of one rollout. Extra fields are kept."""

    model_config = ConfigDict(extra="allow")

    invocation_id: str | None = None
    experiment_id: str | None = None
    rollout_id: str | None = None
    run_id: str | None = None
    usage: CompletionUsage | None = None
    cost_metrics: CostMetrics | None = None
    duration_seconds: float | None = None
    rollout_duration_seconds: float | None = None
    """Wall time of the rollout, waiting for a free slot not included where the processor measures it."""
    eval_duration_seconds: float | None = None
    """Wall time of the evaluator's own code."""
    experiment_duration_seconds: float | None = None
    extra: dict[str, Any] | None = None
    finish_reason: str | None = None
    tool_call_count: int | None = None
    raw_output: dict[str, Any] | None = None


class EvaluationThreshold(BaseModel):
    """When an evaluation passes."""

    model_config = ConfigDict(extra="forbid")

    success: float | None = Field(default=None, ge=0, le=1)
    """The aggregate must reach this."""
    standard_error: float | None = Field(default=None, ge=0, le=1)
    """The standard error must not exceed this."""


class EvalMetadata(BaseModel):
    """The evaluation that a row belongs to."""

    name: str
    description: str | None = None
    version: str = ""
    status: Status | None = None
    num_runs: int = 1
    aggregation_method: str = "mean"
    passed_threshold: EvaluationThreshold | None = None
    passed: bool | None = None
