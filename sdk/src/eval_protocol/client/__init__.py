"""The platform from Python, and the packing of an evaluator project.

`Platform` drives it with plain calls, for notebooks and scripts (`drive.py`); `Job` and `Model` are what it makes. `pack` turns a project folder
into the archive that is uploaded.
Names are imported on first use, so that a command which needs only one of them does not pay for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval_protocol.client.drive import Platform
    from eval_protocol.client.errors import JobFailed, PlatformError
    from eval_protocol.client.job import Job, Model
    from eval_protocol.client.packing import PackedProject, pack

__all__ = ["Job", "JobFailed", "Model", "PackedProject", "Platform", "PlatformError", "pack"]

_WHERE = {
    "Job": "eval_protocol.client.job",
    "JobFailed": "eval_protocol.client.errors",
    "Model": "eval_protocol.client.job",
    "PackedProject": "eval_protocol.client.packing",
    "Platform": "eval_protocol.client.drive",
    "PlatformError": "eval_protocol.client.errors",
    "pack": "eval_protocol.client.packing",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only the lazy path needs it

    return getattr(import_module(_WHERE[name]), name)
