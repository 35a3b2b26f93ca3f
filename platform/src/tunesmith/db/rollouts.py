"""Rollouts, events and metrics of a job, as its run directory tells them. Nothing here commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from tunesmith.db.tables import Ingest, JobEvent, Rollout
from tunesmith.runs.rollout_rows import answer_of, metrics_of, prompt_of, snippet

METRICS_FILE = "metrics.jsonl"
_OFFSET = select(Ingest.offset).where(Ingest.path == bindparam("file"))
_SET_OFFSET = insert(Ingest)
_SET_OFFSET = _SET_OFFSET.on_conflict_do_update(index_elements=["path"], set_={"offset": _SET_OFFSET.excluded.offset})
_ADD_ROLLOUTS = insert(Rollout).on_conflict_do_nothing(index_elements=["key"])
_ADD_EVENTS = insert(JobEvent).on_conflict_do_nothing(index_elements=["key"])
# Executed on the connection: the ORM's way through them costs more than they do, and a running job adds lines every second.
Line = tuple[int, dict[str, Any]]
"""Byte offset after the line, and its record."""


def offset_of(session: Session, path: str) -> int:
    """How far a file was read, in bytes."""
    return session.connection().execute(_OFFSET, {"file": path}).scalar() or 0


def set_offset(session: Session, path: str, offset: int) -> None:
    """Remember how far a file was read."""
    session.connection().execute(_SET_OFFSET, {"path": path, "offset": offset})


def add_rollouts(session: Session, job: str, file: str, lines: Sequence[Line]) -> None:
    """Add lines of `rollouts.jsonl`; one that is there already is left as it is."""
    rows = [
        {
            "key": f"{job}/{record['rollout_id']}",
            "job": job,
            **{name: record[name] for name in _ROLLOUT_FIELDS},
            **{name: record.get(name) for name in _LATER_FIELDS},
            **_shown(record["row"]),
        }
        for _, record in lines
    ]
    session.connection().execute(_ADD_ROLLOUTS, rows)


def set_advantages(session: Session, job: str, advantages: Mapping[str, float]) -> None:
    """Note what the tokens of each rollout (by its id) of a sealed batch were weighted with."""
    if advantages:
        statement = update(Rollout).where(Rollout.key == bindparam("rollout_key")).values(advantage=bindparam("weight"))
        rows = [{"rollout_key": f"{job}/{rollout}", "weight": weight} for rollout, weight in advantages.items()]
        session.connection().execute(statement, rows)


def token_totals(session: Session, job: str) -> tuple[int, int]:
    """(sampled, trained) tokens of a job so far: of every recorded rollout, and of every optimizer step."""
    sampled = select(func.coalesce(func.sum(Rollout.completion_tokens), 0)).where(Rollout.job == job)
    trained = select(func.coalesce(func.sum(JobEvent.record["trained_tokens"].as_integer()), 0))
    trained = trained.where(JobEvent.job == job, JobEvent.file == METRICS_FILE)
    return int(session.execute(sampled).scalar_one() or 0), int(session.execute(trained).scalar_one() or 0)


def add_events(session: Session, job: str, file: str, lines: Sequence[Line]) -> None:
    """Add lines of `events.jsonl` or `metrics.jsonl`."""
    rows = [
        {"key": f"{job}/{file}/{offset}", "job": job, "file": file, "offset": offset, "record": record}
        for offset, record in lines
    ]
    session.connection().execute(_ADD_EVENTS, rows)


def list_events(session: Session, job: str, file: str, after: int = -1, most: int | None = None) -> list[JobEvent]:
    """Lines of one file of a job, in order, from byte offset `after` (exclusive) on; the first `most` of them (None: all)."""
    query = select(JobEvent).where(JobEvent.job == job, JobEvent.file == file, JobEvent.offset > after)
    return list(session.scalars(query.order_by(JobEvent.offset).limit(most)))


def forget(session: Session, job: str, run_dir: str) -> None:
    """Remove everything of a job that is being deleted."""
    session.execute(delete(Rollout).where(Rollout.job == job))
    session.execute(delete(JobEvent).where(JobEvent.job == job))
    session.execute(delete(Ingest).where(Ingest.path.startswith(run_dir, autoescape=True)))


_ROLLOUT_FIELDS = (
    "kind",
    "step",
    "epoch",
    "row_index",
    "k",
    "attempt",
    "rollout_id",
    "version",
    "score",
    "is_score_valid",
    "reason",
    "row",
)

_LATER_FIELDS = ("time", "turns", "completion_tokens", "truncated")
"""Lines of older versions have none of them."""


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": snippet(prompt_of(row)), "answer": snippet(answer_of(row)), "metrics": metrics_of(row)}
