"""Completions: one model call each, with the ids that were sampled. They live in a SQLite file of their own (`completions.db`).

Ids are little-endian int32 arrays, log-probabilities float32. Rows are never changed: a completion is written once, when it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import JSON, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, select
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db.group_commit import GroupCommitWriter
from tunesmith.db.session import make_engine, reading

metadata = MetaData()

completions = Table(
    "completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("account", String, nullable=False),
    Column("job", String),
    Column("invocation_id", String),
    Column("experiment_id", String),
    Column("run_id", String),
    Column("row_id", String),
    Column("rollout_id", String),
    Column("turn", Integer, nullable=False),
    Column("index", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("base_model", String, nullable=False),
    Column("policy_version", Integer),
    Column("prompt_ids", LargeBinary, nullable=False),
    Column("sampled_ids", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, nullable=False),
    Column("temperature", Float, nullable=False),
    Column("finish_reason", String),
    Column("status", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("message", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("usage", JSON, nullable=False),
    Column("latency", Float, nullable=False),
    Index("completions_by_rollout", "rollout_id", "turn", "index"),
    Index("completions_by_invocation", "invocation_id"),
    Index("completions_by_time", "created_at"),
)


class CompletionStatus(StrEnum):
    """Whether the model ended the completion, or somebody else did."""

    COMPLETE = "complete"
    """Sampled to its end: a stop, or the token limit."""
    ABORTED = "aborted"
    """Cut: the client went away or the engine was stopped. Not trained."""


@dataclass(frozen=True)
class CorrelationIds:
    """The five ids of Eval Protocol; None where the caller gave none."""

    rollout_id: str | None = None
    invocation_id: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    row_id: str | None = None


@dataclass(frozen=True)
class Completion:
    """One candidate of one model call."""

    id: str
    created_at: float
    """Unix seconds at which the call came in."""
    account: str
    """Resource name."""
    job: str | None
    """Id of the job whose key made the call, or whose policy answered."""
    ids: CorrelationIds
    turn: int
    """Number of the call within its rollout, from 0; 0 without a rollout."""
    index: int
    """Candidate within the call (`n`)."""
    model: str
    """Name that answered."""
    base_model: str
    policy_version: int | None
    prompt_ids: list[int] = field(repr=False)
    sampled_ids: list[int] = field(repr=False)
    """All sampled ids [S], the stop id included."""
    logprobs: list[float] = field(repr=False)
    """Log-probabilities [S] under the distribution sampled from."""
    temperature: float
    """The one in effect."""
    finish_reason: str | None
    status: CompletionStatus
    request: dict[str, Any] = field(repr=False)
    """The client's body without its null fields."""
    message: dict[str, Any] = field(repr=False)
    """The assistant message as the client got it."""
    text: str = field(repr=False)
    params: dict[str, Any]
    """Sampling in effect, after the overrides of a live policy."""
    usage: dict[str, Any]
    latency: float
    """Seconds from the call to its end."""


class CompletionStore:
    """Opens `completions.db`, writes through the group-commit writer, reads on snapshots."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = make_engine(path)
        with self._engine.begin() as connection:
            metadata.create_all(connection)
        self._sessions: sessionmaker[Session] = sessionmaker(self._engine)
        self.writer = GroupCommitWriter(self._engine)

    async def add(self, records: Sequence[Completion]) -> None:
        """Store completions; returns once they are committed. Raises Unavailable when that is not possible."""
        await self.writer.write(completions, [_to_row(record) for record in records])

    def of_rollout(self, rollout_id: str, account: str | None = None, job: str | None = None) -> list[Completion]:
        """Everything recorded under a rollout id, by turn and candidate; narrowed to an account and a job where given."""
        query = select(completions).where(completions.c.rollout_id == rollout_id)
        if account is not None:
            query = query.where(completions.c.account == account)
        if job is not None:
            query = query.where(completions.c.job == job)
        query = query.order_by(completions.c.turn, completions.c["index"], completions.c.created_at)
        with reading(self._sessions) as session:
            return [_from_row(dict(row)) for row in session.execute(query).mappings()]

    def of_invocation(self, invocation_id: str, account: str) -> list[Completion]:
        """Everything that an account recorded under an invocation id, in order of time."""
        query = select(completions).where(
            completions.c.invocation_id == invocation_id, completions.c.account == account
        )
        with reading(self._sessions) as session:
            rows = session.execute(query.order_by(completions.c.created_at, completions.c["index"])).mappings()
            return [_from_row(dict(row)) for row in rows]

    def close(self) -> None:
        """Commit what is queued and close the file."""
        self.writer.close()
        self._engine.dispose()


_CORRELATION = [item.name for item in fields(CorrelationIds)]
_ARRAYS = {"prompt_ids": "<i4", "sampled_ids": "<i4", "logprobs": "<f4"}


def _to_row(record: Completion) -> dict[str, Any]:
    row = {item.name: getattr(record, item.name) for item in fields(Completion) if item.name != "ids"}
    row.update({name: getattr(record.ids, name) for name in _CORRELATION})
    row.update({name: np.asarray(row[name], dtype).tobytes() for name, dtype in _ARRAYS.items()})
    row["status"] = record.status.value
    return row


def _from_row(row: dict[str, Any]) -> Completion:
    ids = CorrelationIds(**{name: row.pop(name) for name in _CORRELATION})
    row.update({name: np.frombuffer(row[name], dtype).tolist() for name, dtype in _ARRAYS.items()})
    row["status"] = CompletionStatus(row["status"])
    return Completion(ids=ids, **row)
