"""Public import path of `FireworksTracingHttpHandler`."""

from __future__ import annotations

from eval_protocol.tracing.handler import FireworksTracingHttpHandler

__all__ = ["FireworksTracingHttpHandler"]
