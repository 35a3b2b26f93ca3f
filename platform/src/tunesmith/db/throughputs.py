"""What this machine was seen to do: tokens per second by base model and kind of work. Estimates of cost are made from it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.tables import Throughput

RECENT = 20
"""Observations that an estimate looks at: older ones may be of another machine, or of an older version."""


def record(session: Session, base_model: str, work: str, tokens_per_second: float, source: str) -> None:
    """Keep one observation. A source (a job's name, `measured`) that was recorded for this work already is replaced.

    `work` is `sft`, `dpo` or `score` (all tokens, prompts included), or `generate` (sampled tokens). A rate that is not above 0
    says nothing and is left out.
    """
    if not tokens_per_second > 0:
        return
    found = session.scalars(
        select(Throughput).where(
            Throughput.base_model == base_model, Throughput.work == work, Throughput.source == source
        )
    ).first()
    if found is not None:
        found.tokens_per_second = tokens_per_second
        return
    session.add(Throughput(base_model=base_model, work=work, tokens_per_second=tokens_per_second, source=source))


def recent(session: Session, base_model: str, work: str, limit: int = RECENT) -> list[Throughput]:
    """The latest observations of one kind of work on one base model, newest first."""
    query = select(Throughput).where(Throughput.base_model == base_model, Throughput.work == work)
    return list(session.scalars(query.order_by(Throughput.created.desc(), Throughput.id.desc()).limit(limit)))
