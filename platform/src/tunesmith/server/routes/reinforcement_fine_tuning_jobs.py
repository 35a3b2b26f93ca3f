"""RFT jobs: create, find, cancel, delete."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic_core import to_json

from tunesmith.db import reinforcement_fine_tuning_jobs as table
from tunesmith.db.evaluators import get_evaluator
from tunesmith.db.jobs import request_cancel, request_delete
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.schemas.names import account_name, check_job_id, resource_name, short_id, versioned_name
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJob, RftJobInput
from tunesmith.schemas.rft_control import control_wire
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.base_models import trainable_base_model
from tunesmith.server.control import Control, Listing, Reader, Writer
from tunesmith.server.job_notes import preflight_notes, sandbox_notes
from tunesmith.server.queue import queue_places
from tunesmith.server.rft_options import DEFAULT_LOSS, check_options
from tunesmith.server.rft_plan import check_values, named_base, plan_job

NOUN = table.NOUN
router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}", tags=[NOUN])


@router.post("")
def create(
    account: AccountId,
    body: RftJobInput,
    control: Control,
    user: CallingUser,
    job_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """Check everything, fill in the defaults, queue the job. The same create under the same id is answered with that job."""
    name, request = _name(account, job_id or f"rft-{secrets.token_hex(5)}"), body.given()
    training = body.training_config
    job_id = check_job_id(short_id(name), "reinforcementFineTuningJobId")
    with reading(control.sessions) as session:
        repeated = table.find_repeated(session, name, request)
        if repeated is not None:
            return rft_job_wire(repeated)
        notes = [{"option": note.option, "reason": note.reason} for note in check_options(body)]
        base_name = named_base(session, account, training.base_model, training.warm_start_from)
    base = trainable_base_model(base_name, control.settings, account)  # may ask the hub: no transaction waits for it
    with control.sessions.begin() as session:
        repeated = table.find_repeated(session, name, request)
        if repeated is not None:
            return rft_job_wire(repeated)
        spec = plan_job(session, account, job_id, body, base)
        job = table.create_rft_job(session, account_name(account), name, spec.model_dump(mode="json"), notes, user)
        session.flush()
        return rft_job_wire(job)


@router.post(":validate")
def validate(
    account: AccountId,
    body: RftJobInput,
    control: Control,
    job_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """Check the options of a create, and its id, before its dataset and evaluator are there; nothing is kept.

    `{"job": name}` where the job is there and may be this create's; else `{}`.
    """
    training = body.training_config
    with reading(control.sessions) as session:
        if job_id is not None:
            name = _name(account, job_id)
            job_id = check_job_id(short_id(name), "reinforcementFineTuningJobId")
            if (made := table.check_id_for(session, name, body.given())) is not None:
                return {"job": made.name}
        check_options(body)
        base_name = named_base(session, account, training.base_model, training.warm_start_from)
    base = trainable_base_model(base_name, control.settings, account)
    with reading(control.sessions) as session:
        check_values(session, account, job_id or "unnamed", body, base)
        if body.audit_evaluator:  # nobody uploads it with the job, as is done with the others
            get_evaluator(session, resource_name(account, "evaluators", versioned_name(body.audit_evaluator)[0]))
    return {}


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing, control: Control) -> dict[str, Any]:
    """One page of jobs, newest first."""
    rows, token = table.list_rft_jobs(session, account_name(account), listing)
    queue = queue_places(session, table.KIND, rows, control.settings.concurrent_rft_jobs)
    return {NOUN: [rft_job_wire(row, queue.get(row.name)) for row in rows], "nextPageToken": token}


@router.post("/{job_id}:cancel")
def cancel(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Ask for the job's end; its last checkpoint is kept. A finished job stays as it is."""
    job = table.get_rft_job(session, _name(account, job_id))
    request_cancel(session, job.name)
    return {}


@router.get("/{job_id}")
def get(account: AccountId, job_id: str, session: Reader, control: Control) -> dict[str, Any]:
    """One job: state, progress, and the values in force."""
    job = table.get_rft_job(session, _name(account, job_id))
    queue = queue_places(session, table.KIND, [job], control.settings.concurrent_rft_jobs)
    return rft_job_wire(job, queue.get(job.name))


@router.delete("/{job_id}")
def delete(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Cancel the job if it runs, then remove its files and its row. The model it produced stays."""
    job = table.get_rft_job(session, _name(account, job_id))
    request_delete(session, job.name)
    return {}


def _name(account: str, job: str) -> str:
    return resource_name(account, NOUN, job)


def rft_job_wire(job: Job, queue: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as the API shows it, with its place in the queue where it was looked up (`server.queue`)."""
    spec = RftSpec.model_validate(job.spec)
    run = job.progress.get("run")
    preflight = (run or {}).get("preflight")
    return RftJob.model_validate(
        {
            "name": job.name,
            "displayName": spec.request.get("displayName"),
            "state": job.state,
            "status": job.status or {"code": "OK", "message": ""},
            "queue": queue,
            "createdBy": job.created_by,
            "createTime": job.created,
            "completedTime": job.completed,
            "dataset": spec.dataset,
            "evaluator": spec.evaluator,
            "evaluatorVersion": spec.evaluator_version,
            "evaluationDataset": spec.evaluation_dataset,
            "evalAutoCarveout": spec.eval_auto_carveout,
            "evaluationEverySteps": spec.evaluation_every_steps,
            "keepAllCheckpoints": spec.keep_all_checkpoints,
            "rewoundFrom": spec.rewound_from,
            "rewoundTo": spec.rewound_to,
            "checkpoints": job.progress.get("checkpoints", []),
            "control": control_wire(job.control, run),
            "chunkSize": spec.chunk_size,
            "maxConcurrentRollouts": spec.max_concurrent_rollouts,
            "maxStaleness": spec.max_staleness,
            "groupDeadlineSeconds": spec.group_deadline_seconds,
            "groupQuorum": spec.group_quorum,
            "trainingConfig": _training_config(spec),
            "inferenceParameters": _inference_parameters(spec),
            "lossConfig": _loss_config(spec),
            "wandbConfig": {"enabled": False} if spec.wandb is None else _wandb_config(spec.wandb),
            "jobProgress": job.progress,
            "outputMetrics": to_json(run, inf_nan_mode="null").decode() if run else None,
            "preflight": preflight,
            "preflightRows": spec.preflight_rows,
            "preflightOnly": spec.preflight_only,
            "auditEvaluator": spec.audit_evaluator,
            "auditEvaluatorVersion": spec.audit_evaluator_version or None,
            "run": run,
            "processes": job.progress.get("processes", []),
            "sandbox": job.progress.get("sandbox"),
            "notes": [*job.notes, *preflight_notes(preflight), *sandbox_notes(job.progress.get("sandbox"))],
        }
    ).dump()


def _wandb_config(given: dict[str, str]) -> dict[str, Any]:
    return {"enabled": True, **{"runId" if name == "run_id" else name: value for name, value in given.items()}}


def _training_config(spec: RftSpec) -> dict[str, Any]:
    source = {"warmStartFrom": spec.warm_start_from} if spec.warm_start_from else {"baseModel": spec.base_model}
    context = {"maxContextLength": spec.max_context_length} if spec.max_context_length else {}
    return {
        **source,
        "outputModel": spec.output_model,
        "epochs": spec.epochs,
        "learningRate": spec.learning_rate,
        "learningRateWarmupSteps": spec.warmup_steps,
        "loraRank": spec.lora_rank,
        "optimizerWeightDecay": spec.weight_decay,
        **context,
    }


def _inference_parameters(spec: RftSpec) -> dict[str, Any]:
    extra = spec.request.get("inferenceParameters", {}).get("extraBody")
    return {
        "maxOutputTokens": spec.max_tokens,
        "temperature": spec.temperature,
        "topP": 1.0,
        "topK": 0,
        "responseCandidatesCount": spec.n,
        **({"extraBody": extra} if extra else {}),
    }


def _loss_config(spec: RftSpec) -> dict[str, Any]:
    method = "METHOD_UNSPECIFIED" if spec.loss == DEFAULT_LOSS else spec.loss
    return {"method": method, **({"klBeta": spec.kl_beta} if spec.kl_beta is not None else {})}
