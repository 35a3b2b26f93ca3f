"""Public import path of data loaders; see `eval_protocol.datasets.loaders`."""

from __future__ import annotations

from eval_protocol.datasets.loaders import DynamicDataLoader, EvaluationDataLoader

__all__ = ["DynamicDataLoader", "EvaluationDataLoader"]
