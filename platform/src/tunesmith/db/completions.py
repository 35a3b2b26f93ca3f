"""Completions: one model call each, with the ids that were sampled. They live in a SQLite file of their own (`completions.db`).

Ids are little-endian int32 arrays, log-probabilities float32. Rows are never changed: a completion is written once, when it ended.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from tunesmith.db.answers import (
    ANSWERS,
    AnswerFiles,
    AnswerLost,
    KeptAnswer,
    PassedCandidate,
    RawAnswer,
    bounded,
    counted_usage,
    read_answer,
)
from tunesmith.db.captured import CapturedFile, check_size, completions
from tunesmith.db.session import reading

log = logging.getLogger(__name__)


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
    answer: RawAnswer | None = field(default=None, repr=False)
    """To be written: the answer as it came. Reading it fills message, text, log-probabilities, and where they are empty finish_reason
    and usage; those of such a record are read with it, and this is None then."""

    @property
    def tokens(self) -> int:
        """What counts for a budget: the completion, and with the first candidate of a call its prompt."""
        prompt = self.usage.get("prompt_tokens") or len(self.prompt_ids)
        return (self.usage.get("completion_tokens") or len(self.sampled_ids)) + (prompt if self.index == 0 else 0)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was sampled in one candidate: all that training needs of a completion. Fields as in `Completion`."""

    id: str
    rollout_id: str
    turn: int
    index: int
    model: str
    policy_version: int | None
    prompt_ids: list[int]
    sampled_ids: list[int]
    logprobs: list[float]
    temperature: float
    finish_reason: str | None
    status: str
    created_at: float
    latency: float


class Pick(StrEnum):
    """Which of the completions that fit a filter are wanted."""

    ALL = "all"
    """Each of them, newest first."""
    TURNS = "turns"
    """The first candidate of each complete call, in turn order; the latest ones where they are more than the limit."""
    LATEST = "latest"
    """Of each rollout the first candidate of its latest complete call, newest first."""


@dataclass(frozen=True)
class CompletionFilter:
    """Which completions are asked for. All conditions hold together."""

    ids: CorrelationIds = CorrelationIds()
    """Those that are given must be equal."""
    since: float | None = None
    """Unix seconds."""
    until: float | None = None
    limit: int = 100
    pick: Pick = Pick.ALL


class CompletionStore:
    """Writes completions through the group-commit writer, reads them on snapshots."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`. `file` is shared with the other stores of what the gateway captured."""
        self.file = CapturedFile(path)
        self.writer = self.file.writer
        self._sessions = self.file.sessions
        self._tokens: dict[tuple[str, str], asyncio.Task[list[int]]] = {}

    async def add(self, records: Sequence[Completion]) -> None:
        """Store completions; returns once they are committed. Raises Unavailable when that is not possible."""
        await self.writer.write(completions, [_to_row(record) for record in records])
        for record in records:
            counting = self._tokens.get((record.account, record.job or ""))
            if counting is not None and counting.done() and counting.exception() is None:
                counting.result()[0] += record.tokens

    async def tokens_of_job(self, account: str, job: str) -> int:
        """Tokens recorded under a job so far, prompts and completions together; summed once, then counted in memory."""
        counting = self._tokens.get((account, job))
        if counting is None or (counting.done() and counting.exception() is not None):
            counting = asyncio.create_task(asyncio.to_thread(self._sum_tokens, account, job))
            self._tokens[account, job] = counting
        return (await asyncio.shield(counting))[0]

    def _sum_tokens(self, account: str, job: str) -> list[int]:
        query = select(func.coalesce(func.sum(completions.c.tokens), 0))
        query = query.where(completions.c.job == job, completions.c.account == account)
        with reading(self._sessions) as session:
            return [session.execute(query).scalar_one()]

    def of_rollout(self, rollout_id: str, account: str | None = None, job: str | None = None) -> list[Completion]:
        """Everything recorded under a rollout id, by turn and candidate; narrowed to an account and a job where given."""
        given = {"rollout_id": rollout_id, "account": account, "job": job}
        given = {name: value for name, value in given.items() if value is not None}
        with reading(self._sessions) as session:
            return self._read(session, _in_turn_order(*given), given)

    async def sampled_in(self, rollout_id: str, account: str | None = None, job: str | None = None) -> list[Sampled]:
        """What was sampled in a rollout, by turn and candidate; narrowed to an account and a job where given.

        Read on the event loop's thread: it is read of every rollout of every job, and of most it takes less than handing it to another
        thread. Where an upstream's answer has to be read, from files, a thread does it.
        """
        given = [("rollout_id", rollout_id), ("account", account), ("job", job)]
        given = [(name, value) for name, value in given if value is not None]
        found = self.file.rows(_sampled_by(*(name for name, _ in given)), *(value for _, value in given))
        if any(row[-1] for row in found):
            read = await asyncio.to_thread(self.of_rollout, rollout_id, account, job)
            return [_sampled(completion, rollout_id) for completion in read]
        return [Sampled(*map(_decoded, row, _SAMPLED_TYPES)) for row in found]

    def get(self, id: str, account: str, job: str | None = None) -> Completion | None:
        """One completion by its id, of an account, and of a job where one is given; None where there is none."""
        query = select(completions).where(completions.c.id == id, completions.c.account == account)
        if job is not None:
            query = query.where(completions.c.job == job)
        with reading(self._sessions) as session:
            found = self._read(session, query)
        return found[0] if found else None

    def knows(self, rollout_id: str) -> bool:
        """Whether anything was recorded under a rollout id; a quick look on the event loop's thread."""
        return self.file.has("SELECT 1 FROM completions WHERE rollout_id = ? LIMIT 1", rollout_id)

    def find(self, wanted: CompletionFilter, account: str | None = None, job: str | None = None) -> list[Completion]:
        """Completions that fit, in the order of `wanted.pick`; narrowed to an account and a job where given.

        Raises InvalidArgument when they are too large to be read at once.
        """
        c = completions.c
        given = {**{name: getattr(wanted.ids, name) for name in _CORRELATION}, "account": account, "job": job}
        fits = [c[name] == value for name, value in given.items() if value is not None]
        fits += [c.created_at >= wanted.since] if wanted.since is not None else []
        fits += [c.created_at <= wanted.until] if wanted.until is not None else []
        if wanted.pick is not Pick.ALL:
            fits += [c.status == CompletionStatus.COMPLETE.value, c["index"] == 0]
        query = select(completions).where(*fits).order_by(c.created_at.desc(), c.turn.desc(), c["index"])
        if wanted.pick is Pick.LATEST:
            of_one = [c.account, c.job, func.coalesce(c.rollout_id, c.id)]
            newest = func.row_number().over(partition_by=of_one, order_by=[c.turn.desc(), c.created_at.desc()])
            ranked = select(c.id, newest.label("rank")).where(*fits).subquery()
            query = query.where(c.id.in_(select(ranked.c.id).where(ranked.c.rank == 1)))
        query = query.limit(wanted.limit)
        with reading(self._sessions) as session:
            kept = func.coalesce(func.json_extract(c.answer, "$.length"), 0)
            check_size(session, query, func.length(c.request) + func.length(c.message) + func.length(c.text) + kept)
            found = self._read(session, query)
        if wanted.pick is Pick.TURNS:
            found.sort(key=lambda completion: (completion.ids.rollout_id or "", completion.turn, completion.created_at))
        return found

    def usage_of(self, rollout_id: str, account: str | None = None, job: str | None = None) -> dict[str, int]:
        """Tokens of all complete calls of a rollout, the first candidate of each; narrowed to an account and a job where given."""
        c = completions.c
        given = {"rollout_id": rollout_id, "account": account, "job": job}
        fits = [c[name] == value for name, value in given.items() if value is not None]
        fits += [c.status == CompletionStatus.COMPLETE.value, c["index"] == 0]
        names = ("prompt_tokens", "completion_tokens")
        sums = [func.coalesce(func.sum(c.usage[name].as_integer()), 0) for name in names]
        unread = select(completions).where(*fits, c.answer.is_not(None), c.usage[names[1]].as_integer().is_(None))
        with reading(self._sessions) as session:
            prompt, completion = map(int, session.execute(select(*sums).where(*fits)).one())
            for record in self._read(session, unread):
                prompt += record.usage.get(names[0], 0)
                completion += record.usage.get(names[1], 0)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def close(self) -> None:
        """Commit what is queued and close the file."""
        self.file.close()

    def _read(self, session: Session, query: Select[Any], given: Mapping[str, Any] | None = None) -> list[Completion]:
        rows = session.connection().execute(query, given).mappings()
        return [_from_row(dict(row), self.file.answers) for row in rows]


@cache
def _in_turn_order(*columns: str) -> Select[Any]:
    """Completions by the columns that are given, made once: every rollout of a job is read so, and making it takes longer than reading."""
    fits = [completions.c[name] == bindparam(name) for name in columns]
    return (
        select(completions).where(*fits).order_by(completions.c.turn, completions.c["index"], completions.c.created_at)
    )


_SAMPLED = [item.name for item in fields(Sampled)]


@cache
def _sampled_by(*columns: str) -> str:
    names = ", ".join(f'"{name}"' for name in _SAMPLED)
    fits = " AND ".join(f'"{name}" = ?' for name in columns)
    return f'SELECT {names}, answer IS NOT NULL FROM completions WHERE {fits} ORDER BY turn, "index", created_at'


def _sampled(completion: Completion, rollout_id: str) -> Sampled:
    values = {name: getattr(completion, name) for name in _SAMPLED if name != "rollout_id"}
    return Sampled(**{**values, "rollout_id": rollout_id, "status": completion.status.value})


_CORRELATION = [item.name for item in fields(CorrelationIds)]
_ARRAYS = {"prompt_ids": "<i4", "sampled_ids": "<i4", "logprobs": "<f4"}
_SAMPLED_TYPES = [_ARRAYS.get(name) for name in _SAMPLED]


def _decoded(value: Any, type: str | None) -> Any:
    return value if type is None else np.frombuffer(value, type).tolist()


_CODES = {"prompt_ids": "i", "sampled_ids": "i", "logprobs": "f"}


def _to_row(record: Completion) -> dict[str, Any]:
    row = {**vars(record), **vars(record.ids)}
    del row["ids"]
    for name, code in _CODES.items():  # `array` takes a list several times as fast as numpy does
        if not row[name]:
            row[name] = b""
            continue
        packed = array(code, row[name])
        if sys.byteorder == "big":
            packed.byteswap()
        row[name] = packed.tobytes()
    row["status"], row["tokens"] = record.status.value, record.tokens
    return row


def _from_row(row: dict[str, Any], files: AnswerFiles) -> Completion:
    ids = CorrelationIds(**{name: row.pop(name) for name in _CORRELATION})
    row.update({name: np.frombuffer(row[name], dtype).tolist() for name, dtype in _ARRAYS.items()})
    row["status"] = CompletionStatus(row["status"])
    del row["tokens"]
    kept = row.pop("answer")
    if kept is not None:
        row.update(_read_fields(row, msgspec.json.decode(kept, type=KeptAnswer), files))
    return Completion(ids=ids, **row)


def _read_fields(row: dict[str, Any], kept: KeptAnswer, files: AnswerFiles) -> dict[str, Any]:
    """What a row leaves to its upstream's answer. One that cannot be read any more is no reason to hide the rest of the row."""
    try:
        answer = read_answer(kept.dialect, kept.streamed, files.read(kept))
        unreadable = answer.unreadable
    except AnswerLost as error:
        answer, unreadable = ANSWERS[kept.dialect](), str(error)
    if unreadable:
        log.warning("The answer of completion %s cannot be read: %s", row["id"], unreadable)
    candidate = answer.candidates.get(0) or PassedCandidate(0)
    heard = answer.candidates or row["status"] is CompletionStatus.COMPLETE or row["finish_reason"] == "abort"
    return {
        "message": candidate.message,
        "text": candidate.content,
        "logprobs": np.asarray(bounded(candidate.logprobs), np.float32).tolist(),
        "finish_reason": row["finish_reason"] or candidate.finish_reason,
        "usage": row["usage"] or (counted_usage(answer, kept.request_bytes) if heard else {}),
        "params": {
            **row["params"],
            "upstream_id": answer.id,
            **({"unreadable": unreadable} if unreadable else {}),
        },
    }
