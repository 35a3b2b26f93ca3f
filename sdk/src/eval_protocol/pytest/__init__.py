"""Public import path of the decorator and the rollout processors. Names are loaded when they are first used.

The plugin lives beside it and is imported by every pytest run of the environment, so this file imports nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "evaluation_test": "eval_protocol.evaluation.decorator",
    "default_dataset_adapter": "eval_protocol.datasets",
    "SingleTurnRolloutProcessor": "eval_protocol.rollouts",
    "NoOpRolloutProcessor": "eval_protocol.rollouts",
    "RemoteRolloutProcessor": "eval_protocol.rollouts",
    "RolloutProcessor": "eval_protocol.rollouts",
    "RolloutProcessorConfig": "eval_protocol.rollouts",
    "ExceptionHandlerConfig": "eval_protocol.rollouts",
    "BackoffConfig": "eval_protocol.rollouts",
    "get_default_exception_handler_config": "eval_protocol.rollouts",
}

if TYPE_CHECKING:
    from eval_protocol.datasets import default_dataset_adapter
    from eval_protocol.evaluation.decorator import evaluation_test
    from eval_protocol.rollouts import (
        BackoffConfig,
        ExceptionHandlerConfig,
        NoOpRolloutProcessor,
        RemoteRolloutProcessor,
        RolloutProcessor,
        RolloutProcessorConfig,
        SingleTurnRolloutProcessor,
        get_default_exception_handler_config,
    )

__all__ = [
    "BackoffConfig",
    "ExceptionHandlerConfig",
    "NoOpRolloutProcessor",
    "RemoteRolloutProcessor",
    "RolloutProcessor",
    "RolloutProcessorConfig",
    "SingleTurnRolloutProcessor",
    "default_dataset_adapter",
    "evaluation_test",
    "get_default_exception_handler_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'eval_protocol.pytest' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
