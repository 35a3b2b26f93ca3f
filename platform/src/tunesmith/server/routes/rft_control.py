"""Steer a running RFT job: pause, go on, take so many steps, another learning rate or evaluator version; rewind it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db import reinforcement_fine_tuning_jobs as table
from tunesmith.db.jobs import CANCELLING, DELETING, FINAL_STATES, request_cancel
from tunesmith.db.session import reading
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.jobs.retention import check_not_removed
from tunesmith.runs.control import Asked
from tunesmith.schemas.names import resource_name
from tunesmith.schemas.rft_control import RftControlInput, RftRewindInput
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane
from tunesmith.server.rft_fork import Fork, active_version, fork_job, made_before, new_name
from tunesmith.server.rft_plan import shown
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, rft_job_wire

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])


@router.post(":control")
def control_job(account: AccountId, job_id: str, body: RftControlInput, control: Control) -> dict[str, Any]:
    """Ask for any of these; it counts from the next chunk on. Answers with the job: `control` says what is asked and in force."""
    name = resource_name(account, NOUN, job_id)
    _check(body)
    if body.learning_rate is not None:
        with reading(control.sessions) as session:
            spec = RftSpec.model_validate(table.get_rft_job(session, name).spec)
        _check_learning_rate(control, account, spec, body.learning_rate)  # may ask the hub: no transaction waits for it
    with control.sessions.begin() as session:
        job = table.get_rft_job(session, name)
        if job.state in (*FINAL_STATES, CANCELLING, DELETING):
            raise FailedPrecondition(
                f"{name} has ended or is ending ({job.state}): nothing of it can be controlled any more. "
                "Rewind it to one of its versions, or clone it."
            )
        asked = Asked.model_validate(job.control)
        if body.evaluator_version is not None:
            active_version(session, RftSpec.model_validate(job.spec), body.evaluator_version)
        job.control = _merged(asked, body).model_dump()
        session.flush()
        return rft_job_wire(job)


@router.post(":rewind")
def rewind(
    account: AccountId,
    job_id: str,
    body: RftRewindInput,
    control: Control,
    user: CallingUser,
    new_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """A new job that begins as this one was at a policy version: adapter, optimizer, place in the data. This one ends if it runs."""
    name = resource_name(account, NOUN, job_id)
    display_name = body.display_name
    fork = Fork(account, name, new_name(account, new_id), body.version, display_name=display_name, created_by=user)
    with control.sessions.begin() as session:
        job = table.get_rft_job(session, name)
        repeated = made_before(session, fork)
        if repeated is not None:
            return rft_job_wire(repeated)
        if job.delete_requested:
            raise FailedPrecondition(f"{name} is being deleted; it cannot be rewound.")
        check_not_removed(job, "rewound")
        new = fork_job(session, control, fork)
        if job.state not in FINAL_STATES:
            request_cancel(session, name)
        return rft_job_wire(new)


def _check(body: RftControlInput) -> None:
    if not body.model_fields_set:
        raise InvalidArgument(
            "Give at least one of paused, steps, learningRate, evaluatorVersion, autoEvaluatorVersion."
        )
    if body.paused and body.steps is not None:
        raise InvalidArgument("steps goes on and then pauses by itself; leave paused out.")
    if body.auto_evaluator_version and body.evaluator_version is not None:
        raise InvalidArgument("autoEvaluatorVersion takes the newest version; leave evaluatorVersion out, or it out.")


def _merged(asked: Asked, body: RftControlInput) -> Asked:
    """All wishes so far and these."""
    revision, given = asked.revision + 1, body.model_fields_set
    changes: dict[str, Any] = {"revision": revision}
    if body.paused is not None:
        changes |= {"paused": body.paused, "steps": None}
    if body.steps is not None:
        changes |= {"paused": False, "steps": body.steps, "steps_revision": revision}
    if "learning_rate" in given:
        changes["learning_rate"] = body.learning_rate
    if "evaluator_version" in given:
        changes |= {"evaluator_version": body.evaluator_version, "auto_evaluator_version": False}
    if body.auto_evaluator_version is not None:
        changes["auto_evaluator_version"] = body.auto_evaluator_version
        if body.auto_evaluator_version:
            changes["evaluator_version"] = None
    return asked.model_copy(update=changes)


def _check_learning_rate(control: ControlPlane, account: str, spec: RftSpec, rate: float) -> None:
    base = find_base_model(spec.base_model, control.settings, account)
    bounds = base.training.learning_rate_bounds
    if rate not in bounds:
        raise InvalidArgument(f"learningRate {rate:g} outside valid range {shown(bounds)} for {base.name}.")
