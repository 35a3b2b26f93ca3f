"""The reward audit of an RFT job: what its scores go with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.rollout_pages import AuditedRollout, by_ids, scored_for_audit
from tunesmith.db.rollouts import list_events
from tunesmith.db.tables import Job
from tunesmith.runs.rollout_rows import SNIPPET
from tunesmith.schemas.names import resource_name
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Reader
from tunesmith.server.reward_audit import AuditRow, SecondOpinion, audit, second_opinion
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN
from tunesmith.server.routes.rft_rollouts import summaries

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])

MOST_ROLLOUTS = 50_000
DEFAULT_ROLLOUTS = 20_000
"""The latest ones: an audit is asked for while a run goes on, and should answer in a second or two."""
TOP_SCORED = 20


@router.get("/audit")
def get_audit(
    account: AccountId,
    job_id: str,
    session: Reader,
    rollouts: Annotated[int, Query(ge=1, le=MOST_ROLLOUTS)] = DEFAULT_ROLLOUTS,
) -> dict[str, Any]:
    """Score against length, top-scored rollouts, answers given to different rows, metrics that decide alone, their course over the
    steps, and what to look at. Of the latest `rollouts` scored ones. An audit tells; it prevents nothing."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    rows = audited_rows(session, job.name, rollouts)
    best = sorted(enumerate(rows), key=lambda place: (-place[1].score, -place[0]))[:TOP_SCORED]  # of equals the latest
    top = by_ids(session, job.name, [row.rollout_id for _, row in best])
    return {**audit_of(session, job, rows), "topScored": summaries(session, top)}


def audit_of(session: Session, job: Job, rows: Sequence[AuditRow]) -> dict[str, Any]:
    """The audit of these rollouts of a job, the second evaluator's findings among the others."""
    found, opinion = audit(rows), opinion_of(session, job)
    findings = [*found["findings"], *(opinion or {}).get("findings", [])]
    ranked = sorted(findings, key=lambda each: each["severity"] != "warning")
    return {**found, "findings": ranked, "auditEvaluator": opinion}


def opinion_of(session: Session, job: Job) -> dict[str, Any] | None:
    """What the job's second evaluator says; None where it has none."""
    spec = RftSpec.model_validate(job.spec)
    if spec.audit_evaluator is None:
        return None
    lines = [event.record for event in list_events(session, job.name, "audit.jsonl")]
    pairs = [
        SecondOpinion(line["rollout_id"], line["row_index"], line["step"], line["score"], line["audit_score"])
        for line in lines
        if line["kind"] == "audit" and line["audit_score"] is not None
    ]
    scored = sum(line["kind"] == "audit" for line in lines)
    failed = next((line["reason"] for line in reversed(lines) if line["kind"] == "audit_failed"), "")
    return {
        "evaluator": spec.audit_evaluator,
        "version": spec.audit_evaluator_version,
        "invalid": scored - len(pairs),
        **second_opinion(pairs, failed),
    }


def audited_rows(session: Session, job: str, most: int = DEFAULT_ROLLOUTS) -> list[AuditRow]:
    """The latest scored training rollouts of a job (resource name), at most `most`, as an audit takes them."""
    return [_row(rollout) for rollout in scored_for_audit(session, job, most)]


def _row(rollout: AuditedRollout) -> AuditRow:
    answer = rollout.answer or ""
    if len(answer) >= SNIPPET:  # only its beginning is known: of two that begin alike, equal length makes one answer
        answer = f"{answer} ({rollout.completion_tokens} tokens)"
    return AuditRow(
        rollout_id=rollout.rollout_id,
        row=rollout.row_index,
        step=rollout.step,
        score=rollout.score,
        tokens=rollout.completion_tokens,
        answer=answer,
        metrics=rollout.metrics or {},
    )
