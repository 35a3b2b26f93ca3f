"""Write an eval as a pytest test, run it, and train against it.

Nothing happens on import: no network, no `.env`, no logging. Names are loaded when they are first used.

PYTEST_DONT_REWRITE (for pytest: there are no test assertions in here, and `python evaluation.py` has imported it before pytest starts).
"""

from __future__ import annotations

import os as _os
import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "EvaluationRow": "eval_protocol.models",
    "Message": "eval_protocol.models",
    "EvaluateResult": "eval_protocol.models",
    "MetricResult": "eval_protocol.models",
    "InputMetadata": "eval_protocol.models",
    "ExecutionMetadata": "eval_protocol.models",
    "Status": "eval_protocol.models",
    "evaluation_test": "eval_protocol.evaluation.decorator",
    "load_jsonl": "eval_protocol.datasets",
    "InitRequest": "eval_protocol.models.remote",
    "RolloutMetadata": "eval_protocol.models.remote",
    "StatusResponse": "eval_protocol.models.remote",
    "DataLoaderConfig": "eval_protocol.models.remote",
    "create_langfuse_config_tags": "eval_protocol.models.remote",
    "FireworksTracingHttpHandler": "eval_protocol.tracing.handler",
    "RolloutIdFilter": "eval_protocol.tracing.filters",
    "DynamicDataLoader": "eval_protocol.datasets.loaders",
    "RemoteRolloutProcessor": "eval_protocol.rollouts",
    "SingleTurnRolloutProcessor": "eval_protocol.rollouts",
}

if TYPE_CHECKING:
    from eval_protocol.datasets import load_jsonl
    from eval_protocol.datasets.loaders import DynamicDataLoader
    from eval_protocol.evaluation.decorator import evaluation_test
    from eval_protocol.models import (
        EvaluateResult,
        EvaluationRow,
        ExecutionMetadata,
        InputMetadata,
        Message,
        MetricResult,
        Status,
    )
    from eval_protocol.models.remote import (
        DataLoaderConfig,
        InitRequest,
        RolloutMetadata,
        StatusResponse,
        create_langfuse_config_tags,
    )
    from eval_protocol.rollouts import RemoteRolloutProcessor, SingleTurnRolloutProcessor
    from eval_protocol.tracing.filters import RolloutIdFilter
    from eval_protocol.tracing.handler import FireworksTracingHttpHandler

__all__ = [
    "DataLoaderConfig",
    "DynamicDataLoader",
    "EvaluateResult",
    "EvaluationRow",
    "ExecutionMetadata",
    "FireworksTracingHttpHandler",
    "InitRequest",
    "InputMetadata",
    "Message",
    "MetricResult",
    "RemoteRolloutProcessor",
    "RolloutIdFilter",
    "RolloutMetadata",
    "SingleTurnRolloutProcessor",
    "Status",
    "StatusResponse",
    "create_langfuse_config_tags",
    "evaluation_test",
    "load_jsonl",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'eval_protocol' has no attribute {name!r}")
    return getattr(_import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _refuse_company() -> None:
    """Two distributions that own the import name `eval_protocol` overwrite each other's files: say so at once.

    Our own metadata-only `eval-protocol` (local version `+tunesmith`) owns no files and is fine. Folder names are enough to tell
    (reading metadata properly would cost more than the whole import).
    """
    for folder in _sys.path:
        try:
            names = _os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if not (name.startswith("eval_protocol-") and name.endswith(".dist-info")):
                continue
            if not name.removesuffix(".dist-info").endswith("tunesmith"):
                raise ImportError(
                    f"Both tunesmith-eval and the published eval-protocol package are installed ({_os.path.join(folder, name)}); "
                    "they own the same import name. Remove both (`pip uninstall eval-protocol tunesmith-eval`), "
                    "then install the one you want."
                )


_refuse_company()
