"""Rollouts of an RFT job on the wire: as tables show them, and whole."""

from __future__ import annotations

from typing import Any

from tunesmith.schemas.wire import Time, Wire


class RolloutStatus(Wire):
    """How a rollout went (not its score): `100` finished, `101` running, and google.rpc's codes."""

    code: int
    message: str = ""


class RolloutSummary(Wire):
    """One scored or failed rollout of a job, for tables. What is not known of it is null; rows of older versions know less."""

    id: str
    rollout_id: str
    kind: str
    """`train` or `evaluation`."""
    step: int
    epoch: int
    row_index: int
    k: int
    attempt: int
    version: int
    """Policy version that sampled it."""
    score: float | None = None
    is_score_valid: bool
    reason: str
    prompt: str | None = None
    """The beginning of what it answers."""
    answer: str | None = None
    """The beginning of its last assistant message."""
    metrics: dict[str, float] | None = None
    """Score by name of the evaluator's metric."""
    status: RolloutStatus | None = None
    turns: int | None = None
    """Model calls."""
    completion_tokens: int | None = None
    """Sampled tokens, all turns."""
    truncated: bool | None = None
    """Whether a turn ended at its token limit."""
    advantage: float | None = None
    """What its tokens were weighted with; null where it was not trained."""
    time: Time | None = None


class RolloutRecord(RolloutSummary):
    """A rollout with its row: messages, score, metadata."""

    row: dict[str, Any]
