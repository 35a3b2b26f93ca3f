"""Public import path of the wire types of remote rollouts."""

from __future__ import annotations

from eval_protocol.models.remote import (
    DataLoaderConfig,
    InitRequest,
    RolloutMetadata,
    StatusResponse,
    create_langfuse_config_tags,
)

__all__ = ["DataLoaderConfig", "InitRequest", "RolloutMetadata", "StatusResponse", "create_langfuse_config_tags"]
