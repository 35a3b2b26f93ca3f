"""A new RFT job that begins as another was at one of its policy versions: what `:rewind` and `:extend` share."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tunesmith.db import reinforcement_fine_tuning_jobs as table
from tunesmith.db.evaluators import ACTIVE
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import FailedPrecondition, NotFound
from tunesmith.runs.control import Asked
from tunesmith.runs.fork import evaluator_in_force, hold_checkpoint
from tunesmith.schemas.names import account_name, check_job_id, resource_name, short_id
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.control import ControlPlane
from tunesmith.server.rft_plan import free_output_model


@dataclass(frozen=True)
class Fork:
    """What is wanted: the job `name`, beginning as `source` was at policy version `version`."""

    account: str
    source: str
    name: str
    version: int
    epochs: int | None = None
    """Passes over the dataset in all; None: as many as the source's."""
    display_name: str | None = None
    output_model: str | None = None
    """Name of its model; None: its own id."""
    created_by: str = ""
    """Resource name of the user who asked, if any."""


def new_name(account: str, new_id: str | None) -> str:
    """Resource name of the job to be made. Raises InvalidArgument when the id cannot be one."""
    name = resource_name(account, table.NOUN, new_id or f"rft-{secrets.token_hex(5)}")
    check_job_id(short_id(name), "reinforcementFineTuningJobId")
    return name


def made_before(session: Session, fork: Fork) -> Job | None:
    """The job that the same request made already; None: there is none, and its name is free. Raises AlreadyExists."""
    job = session.get(Job, fork.name)
    if job is not None and not job.delete_requested and job.spec.get("rewound_from") == fork.source:
        made, source = RftSpec.model_validate(job.spec), table.get_rft_job(session, fork.source)
        if fork.epochs is not None:  # the last version may be another by now
            same = made.epochs == fork.epochs
        else:  # an extension from that version has more epochs than its source
            same = (made.rewound_to, made.epochs) == (fork.version, RftSpec.model_validate(source.spec).epochs)
        if same:
            return job
    table.check_free(session, fork.name)
    return None


def fork_job(session: Session, control: ControlPlane, fork: Fork) -> Job:
    """Queue it: with the evaluator version and the learning rate then in force, its checkpoint held in its own run directory.

    It takes over the source's wish for new evaluator versions. Raises FailedPrecondition when the checkpoint is not kept or the evaluator
    version not built, NotFound, AlreadyExists for the name of the model.
    """
    source = table.get_rft_job(session, fork.source)
    spec = RftSpec.model_validate(source.spec)
    run_dir = control.settings.run_dir(short_id(fork.source))
    evaluator, rate = evaluator_in_force(run_dir, fork.version)
    forked = _spec(session, fork, spec, evaluator)
    fields = forked.model_dump(mode="json")
    new = table.create_rft_job(session, account_name(fork.account), fork.name, fields, [], fork.created_by)
    asked = Asked.model_validate(source.control)
    new.control = Asked(
        revision=asked.revision + 1,
        learning_rate=rate if rate != spec.learning_rate else None,
        auto_evaluator_version=asked.auto_evaluator_version,
    ).model_dump()
    hold_checkpoint(run_dir, control.settings.run_dir(short_id(fork.name)), fork.version)
    session.flush()
    return new


def active_version(session: Session, spec: RftSpec, version: int) -> tuple[str, str]:
    """(folder, entry point) of an evaluator version that is built. Raises NotFound, or FailedPrecondition with its build's reason."""
    if version == spec.evaluator_version:
        return spec.evaluator_dir, spec.entry_point
    row = session.get(EvaluatorVersion, f"{spec.evaluator}/versions/{version}")
    if row is None:
        raise NotFound(f"{spec.evaluator} has no version {version}.")
    if row.state != ACTIVE or not row.build_dir:
        reason = row.status.get("message") or "its build has not ended"
        raise FailedPrecondition(f"evaluatorVersion: version {version} of {spec.evaluator} is {row.state}: {reason}")
    return row.build_dir, row.entry_point or spec.entry_point


def _spec(session: Session, fork: Fork, spec: RftSpec, evaluator: int | None) -> RftSpec:
    version = evaluator or spec.evaluator_version
    folder, entry_point = active_version(session, spec, version)
    field = "outputModel" if fork.output_model else "reinforcementFineTuningJobId"
    model = free_output_model(session, fork.account, short_id(fork.name), fork.output_model, field)
    request = {**spec.request, **({"displayName": fork.display_name} if fork.display_name else {})}
    if fork.epochs is not None:
        request["trainingConfig"] = {**request.get("trainingConfig", {}), "epochs": fork.epochs}
    return spec.model_copy(
        update={
            "evaluator_version": version,
            "evaluator_dir": folder,
            "entry_point": entry_point,
            "output_model": model,
            "rewound_from": fork.source,
            "rewound_to": fork.version,
            "epochs": fork.epochs or spec.epochs,
            "request": request,
        }
    )
