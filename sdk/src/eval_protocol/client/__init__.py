"""The platform's API client and the packing of an evaluator project.

`Platform` talks to the control plane over HTTP (aiohttp); `pack` turns a project folder into the archive that is uploaded.
Names are imported on first use, so that a command which needs only one of them does not pay for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval_protocol.client.packing import PackedProject, pack
    from eval_protocol.client.platform import Platform

__all__ = ["PackedProject", "Platform", "pack"]

_WHERE = {
    "PackedProject": "eval_protocol.client.packing",
    "Platform": "eval_protocol.client.platform",
    "pack": "eval_protocol.client.packing",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only the lazy path needs it

    return getattr(import_module(_WHERE[name]), name)
