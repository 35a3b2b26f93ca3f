"""Tracing rollouts: log lines and statuses to the gateway, trajectories back from it. Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "ContextRolloutIdFilter": "eval_protocol.tracing.filters",
    "FireworksTracingHttpHandler": "eval_protocol.tracing.handler",
    "RolloutIdFilter": "eval_protocol.tracing.filters",
    "agent_app": "eval_protocol.agents",
    "init_external_logging_from_env": "eval_protocol.tracing.setup",
    "rollout_logging_context": "eval_protocol.tracing.filters",
}

if TYPE_CHECKING:
    from eval_protocol.agents import agent_app
    from eval_protocol.tracing.filters import ContextRolloutIdFilter, RolloutIdFilter, rollout_logging_context
    from eval_protocol.tracing.handler import FireworksTracingHttpHandler
    from eval_protocol.tracing.setup import init_external_logging_from_env

__all__ = [
    "ContextRolloutIdFilter",
    "FireworksTracingHttpHandler",
    "RolloutIdFilter",
    "agent_app",
    "init_external_logging_from_env",
    "rollout_logging_context",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'eval_protocol.tracing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
