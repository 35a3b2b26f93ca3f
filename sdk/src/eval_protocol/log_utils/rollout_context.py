"""Public import path of the rollout context of log records."""

from __future__ import annotations

from eval_protocol.tracing.filters import ContextRolloutIdFilter, rollout_logging_context

__all__ = ["ContextRolloutIdFilter", "rollout_logging_context"]
