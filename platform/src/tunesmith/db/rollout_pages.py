"""A job's rollouts as pages and tables show them: filtered pages, one rollout, its group and its history. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session, defer

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Rollout
from tunesmith.errors import NotFound
from tunesmith.runs.rollout_rows import SNIPPET

NO_NUMBER = -1e9
"""Stands for a missing number in an order: before all that are there."""
FIELDS = Fields(
    key=Rollout.id,
    order={
        "id": Rollout.id,
        "step": Rollout.step,
        "row_index": Rollout.row_index,
        "score": func.coalesce(Rollout.score, -1.0),
        "is_score_valid": case((Rollout.is_score_valid, 1), else_=0),
        "reason": Rollout.reason,
        "completion_tokens": func.coalesce(Rollout.completion_tokens, -1),
        "advantage": func.coalesce(Rollout.advantage, NO_NUMBER),
    },
    filters={"kind": Rollout.kind, "rollout_id": Rollout.rollout_id},
    default_order="id",
)


@dataclass(frozen=True)
class AuditedRollout:
    """What an audit looks at."""

    rollout_id: str
    row_index: int
    step: int
    score: float
    completion_tokens: int | None
    answer: str | None
    """Its beginning."""
    metrics: dict[str, float] | None


@dataclass(frozen=True)
class RolloutFilter:
    """Which rollouts of a job are asked for. All conditions hold together; None: any."""

    step: int | None = None
    epoch: int | None = None
    kind: str | None = None
    row_index: int | None = None
    valid: bool | None = None
    min_score: float | None = None
    max_score: float | None = None
    contains: str = ""
    """In reason, prompt or answer (their beginnings), whatever the case."""

    def conditions(self, job: str) -> list[ColumnElement[bool]]:
        """As SQL."""
        equal = {
            Rollout.step: self.step,
            Rollout.epoch: self.epoch,
            Rollout.kind: self.kind,
            Rollout.row_index: self.row_index,
            Rollout.is_score_valid: self.valid,
        }
        found = [Rollout.job == job, *(column == value for column, value in equal.items() if value is not None)]
        if self.min_score is not None:
            found.append(Rollout.score >= self.min_score)
        if self.max_score is not None:
            found.append(Rollout.score <= self.max_score)
        if self.contains:
            texts = (Rollout.reason, Rollout.prompt, Rollout.answer)
            found.append(or_(*(text.icontains(self.contains, autoescape=True) for text in texts)))
        return found


def page_of_rollouts(
    session: Session, job: str, query: ListQuery, wanted: RolloutFilter, *, offset: int = 0, summary: bool = False
) -> tuple[list[Rollout], str, int]:
    """One page of a job's rollouts, in the order of their arrival unless asked otherwise; the token of the next; how many match.

    `summary` leaves `row` unread. Raises InvalidArgument naming the wrong parameter.
    """
    conditions = wanted.conditions(job)
    options = [defer(Rollout.row, raiseload=True)] if summary else []
    rows, token = page(session, Rollout, conditions, FIELDS, query, offset=offset, options=options)
    return rows, token, count(session, job, wanted, query)


def count(session: Session, job: str, wanted: RolloutFilter, query: ListQuery) -> int:
    """How many rollouts match."""
    where = [*wanted.conditions(job), *FIELDS.conditions(query.filter)]
    return session.execute(select(func.count(Rollout.id)).where(*where)).scalar_one()


def statuses(session: Session, rollouts: Sequence[Rollout]) -> dict[int, dict[str, Any]]:
    """`{"code", "message"}` of each rollout (not of its score), by the id of its record, without reading whole rows."""
    status = Rollout.row["rollout_status"]
    query = select(Rollout.id, status["code"].as_integer(), status["message"].as_string())
    found = session.execute(query.where(Rollout.id.in_([rollout.id for rollout in rollouts])))
    return {id: {"code": code, "message": message or ""} for id, code, message in found if code is not None}


def get_rollout(session: Session, job: str, rollout_id: str) -> Rollout:
    """One rollout with its row. Raises NotFound."""
    found = session.scalars(select(Rollout).where(Rollout.key == f"{job}/{rollout_id}")).one_or_none()
    if found is None:
        raise NotFound(f"There is no rollout {rollout_id} of {job} (yet). Its rollouts are listed at {job}/rollouts.")
    return found


def group_of(session: Session, rollout: Rollout) -> list[Rollout]:
    """The other rollouts of its row and step, without their rows, by candidate and attempt."""
    where = [
        Rollout.job == rollout.job,
        Rollout.step == rollout.step,
        Rollout.kind == rollout.kind,
        Rollout.row_index == rollout.row_index,
        Rollout.epoch == rollout.epoch,
        Rollout.id != rollout.id,
    ]
    query = (
        select(Rollout).where(*where).order_by(Rollout.k, Rollout.attempt).options(defer(Rollout.row, raiseload=True))
    )
    return list(session.scalars(query))


def history_of(session: Session, rollout: Rollout) -> list[Rollout]:
    """The same row through the run: one rollout a step, without rows, oldest first.

    Of each step its last attempt at the same candidate, with a valid score before one without.
    """
    where = [
        Rollout.job == rollout.job,
        Rollout.kind == rollout.kind,
        Rollout.row_index == rollout.row_index,
        Rollout.k == rollout.k,
    ]
    order = (Rollout.step, Rollout.epoch, Rollout.is_score_valid, Rollout.attempt)
    query = select(Rollout).where(*where).order_by(*order).options(defer(Rollout.row, raiseload=True))
    latest = {(each.step, each.epoch): each for each in session.scalars(query)}
    return [*latest.values()]


def rollouts_after(session: Session, job: str, after: int, limit: int) -> list[Rollout]:
    """The next rollouts of a job in the order of their arrival, behind id `after` (-1: from the first)."""
    query = select(Rollout).where(Rollout.job == job, Rollout.id > after).order_by(Rollout.id).limit(limit)
    return list(session.scalars(query))


def scored_for_audit(session: Session, job: str, most: int) -> list[AuditedRollout]:
    """The latest scored training rollouts of a job, at most `most`, in the order of their arrival, without their rows."""
    columns = (
        Rollout.id,
        Rollout.rollout_id,
        Rollout.row_index,
        Rollout.step,
        Rollout.score,
        Rollout.completion_tokens,
        Rollout.answer,
        Rollout.metrics,
    )
    where = (Rollout.job == job, Rollout.kind == "train", Rollout.is_score_valid.is_(True), Rollout.score.is_not(None))
    found = session.execute(select(*columns).where(*where).order_by(Rollout.id.desc()).limit(most)).all()
    return [AuditedRollout(*row[1:]) for row in reversed(found)]  # pyright: ignore[reportArgumentType] - none without a score


def by_ids(session: Session, job: str, rollout_ids: Sequence[str]) -> list[Rollout]:
    """Rollouts by their ids, in that order, without their rows; those that are not there are left out."""
    keys = [f"{job}/{rollout_id}" for rollout_id in rollout_ids]
    query = select(Rollout).where(Rollout.key.in_(keys)).options(defer(Rollout.row, raiseload=True))
    found = {rollout.key: rollout for rollout in session.scalars(query)}
    return [found[key] for key in keys if key in found]


def held_out_scores(session: Session, job: str, version: int) -> dict[int, float]:
    """Valid scores of a policy version on a job's held-out rows, by row."""
    columns = select(Rollout.row_index, Rollout.score).order_by(Rollout.id)
    where = (
        Rollout.job == job,
        Rollout.kind == "evaluation",
        Rollout.version == version,
        Rollout.is_score_valid.is_(True),
    )
    return {row: score for row, score in session.execute(columns.where(*where)) if score is not None}


def prompt_counts(session: Session, job: str) -> tuple[int, int] | None:
    """(different prompts, rows) among a job's training rollouts; None where prompts are longer than what is kept of them."""
    longest = func.max(func.length(Rollout.prompt))
    counts = select(func.count(Rollout.prompt.distinct()), func.count(Rollout.row_index.distinct()), longest)
    prompts, rows, length = session.execute(counts.where(Rollout.job == job, Rollout.kind == "train")).one()
    return (prompts, rows) if rows and length is not None and length < SNIPPET else None
