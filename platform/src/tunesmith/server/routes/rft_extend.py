"""Take an ended RFT job further: more epochs, or another of its versions as its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from tunesmith.db import reinforcement_fine_tuning_jobs as table
from tunesmith.db.jobs import CANCELLED, COMPLETED, DELETING, EARLY_STOPPED, FINAL_STATES
from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from tunesmith.jobs import promotion
from tunesmith.jobs.retention import check_not_removed
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import adapter_path
from tunesmith.runs.fork import rewindable_versions
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.rft_control import RftExtendInput, RftPromoteInput
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane
from tunesmith.server.rft_fork import Fork, fork_job, made_before, new_name
from tunesmith.server.rft_plan import shown
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, rft_job_wire

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])


@router.post(":extend")
def extend(
    account: AccountId,
    job_id: str,
    body: RftExtendInput,
    control: Control,
    user: CallingUser,
    new_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """A new job that goes on where this one ended, for more epochs: adapter, optimizer, data and noise are those of one long job."""
    name = resource_name(account, NOUN, job_id)
    with reading(control.sessions) as session:
        spec = RftSpec.model_validate(table.get_rft_job(session, name).spec)
    epochs = spec.epochs + body.epochs
    _check_epochs(control, account, spec, epochs)  # may ask the hub: no transaction waits for it
    fork = Fork(
        account,
        name,
        new_name(account, new_id),
        max(rewindable_versions(control.settings.run_dir(short_id(name))), default=0),
        epochs=epochs,
        display_name=body.display_name,
        output_model=body.output_model,
        created_by=user,
    )
    with control.sessions.begin() as session:
        job = table.get_rft_job(session, name)
        repeated = made_before(session, fork)
        if repeated is not None:
            return rft_job_wire(repeated)
        _check_trained(name, spec, "extend")
        _check_extendable(job)
        check_not_removed(job, "extended")
        return rft_job_wire(fork_job(session, control, fork))


@router.post(":promote")
def promote(account: AccountId, job_id: str, body: RftPromoteInput, control: Control) -> dict[str, Any]:
    """Make the adapter of a policy version the job's output model, or another model. It is served by that name at once."""
    name = resource_name(account, NOUN, job_id)
    source = control.settings.run_dir(short_id(name))
    with control.sessions.begin() as session:
        job = table.get_rft_job(session, name)
        spec = RftSpec.model_validate(job.spec)
        model = resource_name(account, "models", body.model) if body.model else spec.output_model
        check_id(short_id(model), "model")
        if job.delete_requested or job.state == DELETING:
            raise FailedPrecondition(f"{name} is being deleted.")
        _check_trained(name, spec, "promote")
        if job.state not in FINAL_STATES and model == spec.output_model:
            raise FailedPrecondition(
                f"{name} has not ended, and its end decides what {model} is. Give the version a name of its own: model."
            )
        check_not_removed(job, "given another version as its model")
        adapter, sha256 = _adapter(source, name, body.version)
        old = session.get(Model, model)
        _check_name(session, account, name, model, old, spec)
        kept = promotion.keep_adapter_beside(control.settings, adapter, model, sha256)
        before = old.adapter_path if old is not None else None
        version_before = (old.details or {}).get("version") if old is not None else None
        promotion.promote(
            session,
            name=model,
            account=account_name(account),
            base_model=RunConfig.read(source).base_model.name,
            job=name,
            adapter=kept,
            sha256=sha256,
            details={"version": body.version, "promotedBy": "hand"},
        )
        if model == spec.output_model:
            job.status = {"code": "OK", **job.status, **_told(job, model, body.version)}
    if (
        before is not None
        and Path(before) != kept
        and control.settings.path("objects", "models") in Path(before).parents
    ):
        shutil.rmtree(before, ignore_errors=True)
    return {"model": model, "version": body.version, "versionBefore": version_before, "sha256": sha256}


def _told(job: Job, model: str, version: int) -> dict[str, str]:
    """What the job says once a version was promoted by hand: why it ended, as before, and what its model serves now."""
    run = job.progress.get("run") or {}
    if job.state in (COMPLETED, EARLY_STOPPED):  # their own message says what the model served until now
        why = promotion.why_ended(run)
    else:
        why = job.status.get("why", job.status.get("message", ""))
    of = f" of {run['optimizer_steps']}" if run.get("optimizer_steps") else ""
    served = f"{model} serves policy version {version}{of}, promoted by hand."
    return {"why": why, "message": f"{why} {served}".lstrip()}


def _check_trained(name: str, spec: RftSpec, what: str) -> None:
    if spec.preflight_only:
        raise FailedPrecondition(
            f"{name} is a preflight, which trains nothing: there is nothing to {what}. Start the job itself."
        )


def _check_extendable(job: Job) -> None:
    if job.delete_requested:
        raise FailedPrecondition(f"{job.name} is being deleted; it cannot be extended.")
    if job.state not in FINAL_STATES:
        raise FailedPrecondition(f"{job.name} has not ended; extend it once it has, or clone it.")
    if job.state == EARLY_STOPPED:
        raise FailedPrecondition(
            f"{job.name} stopped early: for an epoch no row's rollouts differed in score, and more epochs would be as idle. "
            "Clone it with other rows, a higher temperature or more rollouts a row."
        )
    if job.state not in (COMPLETED, CANCELLED):
        raise FailedPrecondition(f"{job.name} has failed: resume it, then extend it.")


def _check_epochs(control: ControlPlane, account: str, spec: RftSpec, epochs: int) -> None:
    base = find_base_model(spec.base_model, control.settings, account)
    bounds = base.training.epochs_bounds
    if epochs not in bounds:
        raise InvalidArgument(
            f"Epochs {epochs} outside valid range {shown(bounds)} for {base.name}: {spec.epochs} of the job and {epochs - spec.epochs} "
            "more. Start a new job with its model as trainingConfig.warmStartFrom."
        )


def _adapter(run_dir: Path, job: str, version: int) -> tuple[Path, str]:
    """(folder, sha256) of a version. Raises NotFound naming the versions that are there."""
    folder = adapter_path(run_dir, version)
    try:
        return folder, json.loads((folder / "canary.json").read_text())["sha256"]
    except FileNotFoundError:
        found = sorted(int(path.name[1:]) for path in (run_dir / "adapters").glob("v*")) if run_dir.is_dir() else []
        there = f"There are {_ranges(found)}." if found else "Its run directory holds none."
        raise NotFound(f"{job} has no adapter of policy version {version}. {there}") from None


def _check_name(session: Session, account: str, job: str, model: str, old: Model | None, spec: RftSpec) -> None:
    if old is not None and old.job != job:
        raise AlreadyExists(f"The model {model} exists already, made by {old.job or 'hand'}. Choose another name.")
    makers = [
        maker for maker in running_jobs_using(session, account_name(account), model, ("output_model",)) if maker != job
    ]
    if makers:
        raise AlreadyExists(f"{makers[0]} is making a model of the name {model}. Choose another name.")
    owner = table.policy_owner(session, account_name(account), model) if model != spec.output_model else None
    if owner is not None:
        raise AlreadyExists(f"{model} is the name of a policy version of the job {owner}. Choose another name.")


def _ranges(numbers: list[int]) -> str:
    """`0 to 4, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts)
