"""The messages of the host's socket, and those between its own processes."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from eval_protocol.models import EvaluationRow

LINE_LIMIT = 256 * 1024 * 1024
"""Longest line taken, in bytes: a whole dataset to adapt, or a row with images."""
TAKEN = b"\n"
"""What a scorer says once it has all of its request, before any of the evaluator's code sees it."""


class Answers(StrEnum):
    """What a run does with the answers that rows end in, where that is not left to the evaluator's processor."""

    SCORE = "score"
    """Rows are scored as they are, nothing is rolled out."""
    REPLACE = "replace"
    """They are dropped and the model answers, also for an evaluator that has no rollouts of its own."""


class Describe(BaseModel):
    """What are you?"""

    type: Literal["describe"]


class Adapt(BaseModel):
    """Make evaluation rows of these objects."""

    type: Literal["adapt"]
    rows: list[dict[str, Any]]


class Attempt(BaseModel):
    """One rollout to do."""

    row_index: int
    k: int
    attempt: int = 0
    rollout_id: str
    row: dict[str, Any]


class Run(BaseModel):
    """Do these rollouts and score them."""

    type: Literal["run"]
    request_id: str
    invocation_id: str
    completion_params: dict[str, Any]
    attempts: list[Attempt]
    max_concurrent_rollouts: int = Field(default=96, ge=1)
    answers: Answers | None = None
    """None, as in training: dropped, unless the evaluator's processor rolls nothing out."""


class Cancel(BaseModel):
    """Stop a run, or some of its rollouts; no event is sent for what was stopped."""

    type: Literal["cancel"]
    request_id: str
    rollouts: list[str] | None = None
    """Ids of the attempts to stop, on whatever connection they were asked for; None: the whole run, which is of this one."""


Request = Describe | Adapt | Run | Cancel
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(message: dict[str, Any]) -> bytes:
    """One line. NaN and infinity, which JSON lacks, must have been dealt with before."""
    return _ENCODER.encode(message).encode() + b"\n"


def score_request(row: bytes) -> bytes:
    """What a scorer is asked about a row that is encoded already."""
    return b'{"op":"score","row":' + row[:-1] + b"}\n"


def dump_row(row: EvaluationRow) -> dict[str, Any]:
    """A row as it goes over the wire."""
    return row.model_dump(mode="json", exclude_none=True, by_alias=True)


def rollout_event(
    request_id: str,
    attempt: Attempt,
    row: dict[str, Any],
    reason: str,
    score: float | None,
    *,
    last_id: str | None = None,
) -> dict[str, Any]:
    """The event of a finished rollout; a score of None is an invalid one.

    Args:
        last_id: rollout id of the last try; None = the attempt's own: it was not tried again.
    """
    return {
        "type": "rollout",
        "request_id": request_id,
        "row_index": attempt.row_index,
        "k": attempt.k,
        "attempt": attempt.attempt,
        "rollout_id": last_id or attempt.rollout_id,
        "row": row,
        "score": score,
        "is_score_valid": score is not None,
        "reason": reason,
    }
