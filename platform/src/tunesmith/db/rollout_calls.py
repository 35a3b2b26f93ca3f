"""The model calls of one rollout as the gateway recorded them, token by token. They live in `completions.db`; only read here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.captured import completions


@dataclass(frozen=True)
class RecordedCall:
    """One model call of a rollout."""

    turn: int
    job: str | None
    """Id of the job whose key made it."""
    model: str
    policy_version: int | None
    """Of the live policy that answered; None where another model did."""
    prompt_ids: list[int] = field(repr=False)
    sampled_ids: list[int] = field(repr=False)
    """[S]; empty where another host answered."""
    logprobs: list[float] = field(repr=False)
    """[S]"""
    temperature: float
    finish_reason: str | None
    status: str
    """`complete` or `aborted`."""


def calls_of_rollout(session: Session, account: str, rollout_id: str) -> list[RecordedCall]:
    """The first candidate of each call recorded under a rollout id of an account (resource name), in turn order."""
    c = completions.c
    columns = (c.turn, c.job, c.model, c.policy_version, c.prompt_ids, c.sampled_ids, c.logprobs, c.temperature)
    query = select(*columns, c.finish_reason, c.status)
    query = query.where(c.rollout_id == rollout_id, c.account == account, c["index"] == 0)
    return [
        RecordedCall(
            turn=row.turn,
            job=row.job,
            model=row.model,
            policy_version=row.policy_version,
            prompt_ids=np.frombuffer(row.prompt_ids, "<i4").tolist(),
            sampled_ids=np.frombuffer(row.sampled_ids, "<i4").tolist(),
            logprobs=np.frombuffer(row.logprobs, "<f4").tolist(),
            temperature=row.temperature,
            finish_reason=row.finish_reason,
            status=row.status,
        )
        for row in session.execute(query.order_by(c.turn, c.created_at))
    ]
