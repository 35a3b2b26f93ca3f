"""Public import path of `RolloutIdFilter`."""

from __future__ import annotations

from eval_protocol.tracing.filters import RolloutIdFilter

__all__ = ["RolloutIdFilter"]
