"""What goes between an evaluation and an agent on a server of its own."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eval_protocol.models.messages import Message
from eval_protocol.models.status import Status


class RolloutMetadata(BaseModel):
    """The five correlation ids of one rollout. Extra fields are kept."""

    model_config = ConfigDict(extra="allow")

    invocation_id: str
    experiment_id: str
    rollout_id: str
    run_id: str
    row_id: str


class InitRequest(BaseModel):
    """The body of `POST /init`: roll this row out."""

    completion_params: dict[str, Any] = Field(default_factory=dict)
    """Model (`fireworks_ai/accounts/...` for models of a platform) and sampling parameters."""
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    model_base_url: str | None = None
    """OpenAI base URL for the agent's model calls; it carries the ids, which is how they are traced."""
    metadata: RolloutMetadata
    api_key: str | None = None
    """Key for model_base_url and for the log lines."""


class StatusResponse(BaseModel):
    """What an agent server's own status route may answer. We never call one: the status is derived from posted log lines."""

    terminated: bool
    info: dict[str, Any] | None = None
    status: Status | None = None


class DataLoaderConfig(BaseModel):
    """What an `output_data_loader` gets: whose trajectory to load."""

    rollout_id: str
    model_base_url: str | None = None
    """Base URL of the tracing gateway, without ids."""
    include_payloads: bool = False
    """Whether token ids and log-probabilities are wanted, too."""


def create_langfuse_config_tags(init_request: InitRequest) -> list[str]:
    """The five ids as `name:value` tags."""
    ids = init_request.metadata
    names = ("invocation_id", "experiment_id", "rollout_id", "run_id", "row_id")
    return [f"{name}:{getattr(ids, name)}" for name in names]
