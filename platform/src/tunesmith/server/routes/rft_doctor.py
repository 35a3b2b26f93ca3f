"""The doctor of an RFT job: what may keep its reward flat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job
from tunesmith.db.rollout_pages import held_out_scores, prompt_counts
from tunesmith.db.rollouts import METRICS_FILE, list_events
from tunesmith.errors import TunesmithError
from tunesmith.runs.files import adapter_path
from tunesmith.runs.held_out import comparable
from tunesmith.schemas.names import resource_name, short_id
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane, Reader
from tunesmith.server.job_doctor import HeldOut, Run, diagnose
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN
from tunesmith.server.routes.rft_audit import audited_rows

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])

ROLLOUTS = 5000
"""The latest scored ones are looked at."""


@router.get("/doctor")
def get_doctor(account: AccountId, job_id: str, session: Reader, control: Control) -> dict[str, Any]:
    """How the reward went, and what may keep it flat: findings with evidence and remedy, the one to look at first first."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    spec = RftSpec.model_validate(job.spec)
    lines = {
        file: [event.record for event in list_events(session, job.name, file)]
        for file in ("events.jsonl", METRICS_FILE)
    }
    asked = next((line["learning_rate"] for line in reversed(lines[METRICS_FILE]) if "learning_rate" in line), None)
    return diagnose(
        Run(
            events=lines["events.jsonl"],
            metrics=lines[METRICS_FILE],
            rows=audited_rows(session, job.name, ROLLOUTS),
            learning_rate=spec.learning_rate if asked is None else asked,
            default_learning_rate=_default_learning_rate(control, account, spec.base_model),
            moved=moved(control.settings.run_dir(short_id(job.name))),
            prompts=prompt_counts(session, job.name),
            held_out=_held_out(session, job.name, lines["events.jsonl"]),
            state=job.state,
            message=(job.status or {}).get("message", ""),
        )
    )


def _held_out(session: Session, job: str, events: Sequence[Mapping[str, Any]]) -> HeldOut | None:
    """The first and the newest evaluation by the newest one's evaluator version; None where they are the same."""
    found = list(comparable(event for event in events if event.get("kind") == "evaluation"))
    if len(found) < 2:
        return None
    first, last = found[0], found[-1]
    return HeldOut(first, last, held_out_scores(session, job, first), held_out_scores(session, job, last))


def moved(run_dir: Path) -> float | None:
    """Largest change of a canary log-probability from version 0 to the newest version, in nats; None where one is missing."""
    found = sorted((run_dir / "adapters").glob("v*/canary.json"))  # numbers have leading zeros
    first = adapter_path(run_dir, 0) / "canary.json"
    if not found or found[-1] == first:
        return None
    try:
        before, after = (json.loads(path.read_text())["logprobs"] for path in (first, found[-1]))
    except (OSError, ValueError, KeyError):
        return None
    return max((abs(a - b) for a, b in zip(before, after, strict=False)), default=None)


def _default_learning_rate(control: ControlPlane, account: str, base_model: str) -> float | None:
    try:
        base = find_base_model(base_model, control.settings, account)
    except TunesmithError:
        return None  # it was deleted since
    return base.training.learning_rate
