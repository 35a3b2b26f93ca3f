"""The local results store: every rollout of every run, in one SQLite file that survives a crash."""

from __future__ import annotations

from eval_protocol.results.queries import Invocation, StoredRow, list_invocations, rows_of
from eval_protocol.results.store import ResultsStore

__all__ = ["Invocation", "ResultsStore", "StoredRow", "list_invocations", "rows_of"]
