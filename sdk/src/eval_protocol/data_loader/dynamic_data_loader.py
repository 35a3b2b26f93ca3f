"""Public import path of `DynamicDataLoader`."""

from __future__ import annotations

from eval_protocol.datasets.loaders import DynamicDataLoader

__all__ = ["DynamicDataLoader"]
