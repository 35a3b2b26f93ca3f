"""Steer a running RFT job: pause, go on, take so many steps, another learning rate or evaluator version; rewind it."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from tunesmith.db import reinforcement_fine_tuning_jobs as table
from tunesmith.db.evaluators import ACTIVE
from tunesmith.db.jobs import CANCELLING, DELETING, FINAL_STATES, request_cancel
from tunesmith.db.session import reading
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.runs.control import Asked
from tunesmith.runs.fork import evaluator_in_force, hold_checkpoint
from tunesmith.schemas.names import account_name, check_job_id, resource_name, short_id
from tunesmith.schemas.rft_control import RftControlInput, RftRewindInput
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane
from tunesmith.server.rft_plan import free_output_model, shown
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
            _active_version(session, RftSpec.model_validate(job.spec), body.evaluator_version)
        job.control = _merged(asked, body).model_dump()
        session.flush()
        return rft_job_wire(job)


@router.post(":rewind")
def rewind(
    account: AccountId,
    job_id: str,
    body: RftRewindInput,
    control: Control,
    new_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """A new job that begins as this one was at a policy version: adapter, optimizer, place in the data. This one ends if it runs."""
    name = resource_name(account, NOUN, job_id)
    new_name = resource_name(account, NOUN, new_id or f"rft-{secrets.token_hex(5)}")
    identity = check_job_id(short_id(new_name), "reinforcementFineTuningJobId")
    source = control.settings.run_dir(short_id(name))
    with control.sessions.begin() as session:
        job = table.get_rft_job(session, name)
        spec = RftSpec.model_validate(job.spec)
        repeated = session.get(Job, new_name)
        if repeated is not None and _is_that_rewind(repeated, name, body.version):
            return rft_job_wire(repeated)
        table.check_free(session, new_name)
        if job.delete_requested:
            raise FailedPrecondition(f"{name} is being deleted; it cannot be rewound.")
        evaluator, rate = evaluator_in_force(source, body.version)
        forked = forked_spec(
            session, account, identity, name, spec, body.version, evaluator, display_name=body.display_name
        )
        new = table.create_rft_job(session, account_name(account), new_name, forked.model_dump(mode="json"), [])
        new.control = carried_control(job, rate if rate != spec.learning_rate else None)
        if job.state not in FINAL_STATES:
            request_cancel(session, name)
        hold_checkpoint(source, control.settings.run_dir(identity), body.version)
        session.flush()
        return rft_job_wire(new)


def carried_control(job: Job, learning_rate: float | None) -> dict[str, Any]:
    """What is asked of a job that begins as `job` was: its wish for new evaluator versions, and the learning rate then in force."""
    asked = Asked.model_validate(job.control)
    return Asked(
        revision=asked.revision + 1,
        learning_rate=learning_rate,
        auto_evaluator_version=asked.auto_evaluator_version,
    ).model_dump()


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
    settings = control.settings
    base = find_base_model(spec.base_model, settings.path("models"), settings.path("objects", "models", account))
    bounds = base.training.learning_rate_bounds
    if rate not in bounds:
        raise InvalidArgument(f"learningRate {rate:g} outside valid range {shown(bounds)} for {base.name}.")


def _active_version(session: Session, spec: RftSpec, version: int) -> tuple[str, str]:
    """(folder, entry point) of a version that is built. Raises NotFound, or FailedPrecondition with its build's reason."""
    if version == spec.evaluator_version:
        return spec.evaluator_dir, spec.entry_point
    row = session.get(EvaluatorVersion, f"{spec.evaluator}/versions/{version}")
    if row is None:
        raise NotFound(f"{spec.evaluator} has no version {version}.")
    if row.state != ACTIVE or not row.build_dir:
        reason = row.status.get("message") or "its build has not ended"
        raise FailedPrecondition(f"evaluatorVersion: version {version} of {spec.evaluator} is {row.state}: {reason}")
    return row.build_dir, row.entry_point or spec.entry_point


def forked_spec(
    session: Session,
    account: str,
    identity: str,
    source: str,
    spec: RftSpec,
    at: int,
    evaluator: int | None,
    *,
    display_name: str | None = None,
    output_model: str | None = None,
) -> RftSpec:
    """The job `identity` that begins as the job `source` was at policy version `at`, under the evaluator version then in force."""
    version = evaluator or spec.evaluator_version
    folder, entry_point = _active_version(session, spec, version)
    return spec.model_copy(
        update={
            "evaluator_version": version,
            "evaluator_dir": folder,
            "entry_point": entry_point,
            "output_model": free_output_model(
                session,
                account,
                identity,
                output_model,
                "outputModel" if output_model else "reinforcementFineTuningJobId",
            ),
            "rewound_from": source,
            "rewound_to": at,
            "request": {**spec.request, **({"displayName": display_name} if display_name else {})},
        }
    )


def _is_that_rewind(job: Job, source: str, version: int) -> bool:
    spec = job.spec
    return spec.get("rewound_from") == source and spec.get("rewound_to") == version and not job.delete_requested
