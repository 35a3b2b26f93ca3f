"""The nouns of an evaluation: rows, messages, scores, statuses. What is written to disk and sent over wires."""

from __future__ import annotations

from eval_protocol.models.messages import (
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartParam,
    ChatCompletionContentPartTextParam,
    FunctionCall,
    Message,
    ToolCall,
)
from eval_protocol.models.metadata import (
    CompletionUsage,
    CostMetrics,
    EvalMetadata,
    EvaluationThreshold,
    ExecutionMetadata,
    InputMetadata,
)
from eval_protocol.models.results import EvaluateResult, MetricResult, StepOutput
from eval_protocol.models.rows import CompletionParams, EvaluationRow
from eval_protocol.models.status import ErrorInfo, Status, TerminationReason

__all__ = [
    "ChatCompletionContentPartImageParam",
    "ChatCompletionContentPartParam",
    "ChatCompletionContentPartTextParam",
    "CompletionParams",
    "CompletionUsage",
    "CostMetrics",
    "ErrorInfo",
    "EvalMetadata",
    "EvaluateResult",
    "EvaluationRow",
    "EvaluationThreshold",
    "ExecutionMetadata",
    "FunctionCall",
    "InputMetadata",
    "Message",
    "MetricResult",
    "Status",
    "StepOutput",
    "TerminationReason",
    "ToolCall",
]
