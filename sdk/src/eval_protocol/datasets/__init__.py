"""Datasets: JSONL files in, evaluation rows out."""

from __future__ import annotations

from eval_protocol.datasets.adapters import adapt_rows, default_dataset_adapter
from eval_protocol.datasets.jsonl import load_jsonl, resolve_dataset_path

__all__ = ["adapt_rows", "default_dataset_adapter", "load_jsonl", "resolve_dataset_path"]
