"""Public import path of the data loaders' base class and results."""

from __future__ import annotations

from eval_protocol.datasets.loaders import DataLoaderResult, DataLoaderVariant, EvaluationDataLoader

__all__ = ["DataLoaderResult", "DataLoaderVariant", "EvaluationDataLoader"]
