"""A row: one prompt of a dataset, and after its rollout the whole trajectory with its score."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eval_protocol.models.messages import Message
from eval_protocol.models.metadata import EvalMetadata, ExecutionMetadata, InputMetadata
from eval_protocol.models.results import EvaluateResult
from eval_protocol.models.status import Status

CompletionParams = dict[str, Any]
"""Sampling parameters of an experiment: model, temperature, max_tokens, api_base, extra_body, ..."""

NOT_CONTENT = {"rollout_status", "evaluation_result", "execution_metadata", "created_at", "eval_metadata", "pid"}


class EvaluationRow(BaseModel):
    """One prompt, its trajectory and its score. Extra fields are kept."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = []
    tools: list[dict[str, Any]] | None = None
    input_metadata: InputMetadata = Field(default_factory=InputMetadata)
    rollout_status: Status = Field(default_factory=Status.rollout_running)
    ground_truth: Any = None
    evaluation_result: EvaluateResult | None = None
    execution_metadata: ExecutionMetadata = Field(default_factory=ExecutionMetadata)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    eval_metadata: EvalMetadata | None = None
    pid: int | None = None
    """Process that made the row: rows of dead processes are shown as aborted."""

    def stable_id(self) -> str:
        """An id made from what the row asks, the same in every process: 24 hex digits."""
        content = self.model_dump(mode="json", exclude=NOT_CONTENT, exclude_none=True)
        content.get("input_metadata", {}).pop("row_id", None)
        content.get("input_metadata", {}).pop("completion_params", None)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def ensure_row_id(self) -> str:
        """The row's id; made from its content when it has none."""
        if not self.input_metadata.row_id:
            self.input_metadata.row_id = self.stable_id()
        return self.input_metadata.row_id

    def __hash__(self) -> int:
        return int(self.stable_id()[:15], 16)

    def is_trajectory_evaluation(self) -> bool:
        """Whether the score has per-step outputs."""
        return bool(self.evaluation_result and self.evaluation_result.step_outputs)

    def get_conversation_length(self) -> int:
        """Number of messages."""
        return len(self.messages)

    def get_system_message(self) -> Message | None:
        """The first system message."""
        return next((message for message in self.messages if message.role == "system"), None)

    def get_assistant_messages(self) -> list[Message]:
        """All assistant messages."""
        return [message for message in self.messages if message.role == "assistant"]

    def last_assistant_message(self) -> Message | None:
        """The last assistant message: usually what is scored."""
        return next((message for message in reversed(self.messages) if message.role == "assistant"), None)

    def get_user_messages(self) -> list[Message]:
        """All user messages."""
        return [message for message in self.messages if message.role == "user"]

    def get_first_user_message(self) -> Message | None:
        """The first user message."""
        return next((message for message in self.messages if message.role == "user"), None)

    def get_input_metadata(self, key: str, default: Any = None) -> Any:
        """One value of `input_metadata`, declared or extra."""
        return getattr(self.input_metadata, key, default)

    def get_steps(self) -> list[dict[str, Any]]:
        """The environment steps recorded on the messages."""
        return [message.control_plane_step for message in self.messages if message.control_plane_step]

    def get_total_reward(self) -> float:
        """Sum of the steps' rewards."""
        return float(sum(step.get("reward") or 0.0 for step in self.get_steps()))

    def get_terminated(self) -> bool:
        """Whether a step ended the episode."""
        return any(step.get("terminated", False) for step in self.get_steps())

    def get_termination_reason(self) -> str:
        """Why the episode ended: from the last step that says so, else from the rollout's status, else `unknown`."""
        for step in reversed(self.get_steps()):
            if reason := step.get("termination_reason"):
                return str(reason)
        reason = self.rollout_status.get_termination_reason()
        return reason.value if reason else "unknown"

    def drop_trailing_assistant_messages(self) -> None:
        """Remove the assistant turns at the end: a gold answer must not reach the model."""
        while self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()

    def to_dict(self) -> dict[str, Any]:
        """Scalar columns for a data frame, and the whole row as `data_json`."""
        score = self.evaluation_result
        return {
            "data_json": self.model_dump_json(exclude_none=True),
            "row_id": self.input_metadata.row_id,
            "model": self.input_metadata.completion_params.get("model"),
            "score": score.score if score else None,
            "is_score_valid": score.is_score_valid if score else None,
            "reason": score.reason if score else None,
            "rollout_id": self.execution_metadata.rollout_id,
            "invocation_id": self.execution_metadata.invocation_id,
            "message_count": len(self.messages),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> EvaluationRow:
        """The row that `to_dict` wrote."""
        return cls.model_validate_json(record["data_json"])
