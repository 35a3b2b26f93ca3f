"""Rollout processors: what turns a row into a trajectory."""

from __future__ import annotations

from eval_protocol.rollouts.no_op import NoOpRolloutProcessor
from eval_protocol.rollouts.processor import RolloutProcessor, RolloutProcessorConfig
from eval_protocol.rollouts.remote import RemoteRolloutProcessor
from eval_protocol.rollouts.retries import BackoffConfig, ExceptionHandlerConfig, get_default_exception_handler_config
from eval_protocol.rollouts.single_turn import SingleTurnRolloutProcessor

__all__ = [
    "BackoffConfig",
    "ExceptionHandlerConfig",
    "NoOpRolloutProcessor",
    "RemoteRolloutProcessor",
    "RolloutProcessor",
    "RolloutProcessorConfig",
    "SingleTurnRolloutProcessor",
    "get_default_exception_handler_config",
]
