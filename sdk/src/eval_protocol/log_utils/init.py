"""Public import path of `init_external_logging_from_env`."""

from __future__ import annotations

from eval_protocol.tracing.setup import init_external_logging_from_env

__all__ = ["init_external_logging_from_env"]
