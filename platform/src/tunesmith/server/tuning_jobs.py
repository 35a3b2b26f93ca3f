"""What the routes of SFT and DPO jobs share: create once, check without creating, and the files of a run by signed URL."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from tunesmith.catalog.prices import load_prices
from tunesmith.db import tuning_jobs as table
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.schemas.names import account_name, check_job_id, resource_name, short_id
from tunesmith.schemas.tuning_fields import Money
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.server.base_models import BaseModel, trainable_base_model
from tunesmith.server.control import ControlPlane
from tunesmith.server.queue import queue_places
from tunesmith.server.render_preview import check_history
from tunesmith.server.rft_plan import named_base
from tunesmith.server.tuning_options import Tuning, history_wire
from tunesmith.server.tuning_plan import check_sources, check_values, plan_job

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
RENDER_SAMPLES = "render_samples.jsonl"
TRAINER_LOG = "trainer.log"
_EVALUATION = re.compile(r"evaluation/step-(\d+)\.json")
LOG_NAME = "{}-trainer.log"
"""File name of a job's log in `logs/`, by job id."""


def create(
    control: ControlPlane, kind: str, account: str, job_id: str | None, options: Tuning, created_by: str = ""
) -> Job:
    """Check everything, fill in the defaults, queue the job. The same create under the same id is answered with that job.

    `created_by` is the resource name of the user, if any.
    """
    identity = f"{table.NOUNS[kind]} id"
    name = resource_name(account, table.NOUNS[kind], job_id or f"{kind}-{secrets.token_hex(5)}")
    job_id, request = check_job_id(short_id(name), identity), options.job.given()
    with reading(control.sessions) as session:
        repeated = table.find_repeated(session, kind, name, request)
    if repeated is not None:
        return repeated
    base = _base(control, account, options)
    with control.sessions.begin() as session:
        repeated = table.find_repeated(session, kind, name, request)
        if repeated is not None:
            return repeated
        spec = plan_job(session, account, job_id, options, base)
        notes = [{"option": note.option, "reason": note.reason} for note in options.notes]
        fields = spec.model_dump(mode="json")
        job = table.create_tuning_job(session, kind, account_name(account), name, fields, list(notes), created_by)
        session.flush()
        return job


def validate(control: ControlPlane, account: str, options: Tuning) -> None:
    """Check the options of a create before its dataset is there; nothing is kept."""
    base = _base(control, account, options)
    with reading(control.sessions) as session:
        check_values(session, account, "unnamed", options, base)


def planned(control: ControlPlane, account: str, options: Tuning) -> TuningSpec:
    """The job that a create would make; nothing is kept. Raises what the create would raise."""
    base = _base(control, account, options)
    with reading(control.sessions) as session:
        return plan_job(session, account, "unnamed", options, base)


def _base(control: ControlPlane, account: str, options: Tuning) -> BaseModel:
    check_sources(options)
    fields = options.fields
    with reading(control.sessions) as session:
        name = named_base(session, account, fields.base_model, fields.warm_start_from, options.prefix)
    base = trainable_base_model(name, control.settings, account)  # may ask the hub: no transaction waits for it
    if options.history != "default":
        check_history(control, account, base.name, options.history)
    return base


def both_ids(query: str | None, body: str | None, field: str) -> str | None:
    """The id of a create, which may come as query parameter or in the body. Raises InvalidArgument when they differ."""
    if query and body and query != body:
        raise InvalidArgument(f"{field} is {query!r} in the query and {body!r} in the body; give it once.")
    return query or body


def queues(control: ControlPlane, session: Session, kind: str, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """The places of those that wait, by name (`server.queue`)."""
    return queue_places(session, kind, jobs, control.settings.concurrent_tuning_jobs)


def common_wire(
    control: ControlPlane, job: Job, spec: TuningSpec, queue: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The fields that both kinds of jobs show at their top; `queue` where its place was looked up."""
    return {
        "name": job.name,
        "displayName": spec.request.get("displayName"),
        "state": job.state,
        "status": job.status or {"code": "OK", "message": ""},
        "queue": queue,
        "createdBy": job.created_by,
        "createTime": job.created,
        "updateTime": job.completed or job.started or job.created,
        "completedTime": job.completed,
        "dataset": spec.dataset,
        "evaluationDataset": spec.evaluation_dataset,
        "evalAutoCarveout": spec.eval_auto_carveout,
        "thinkingTraceHistoryMode": history_wire(spec.thinking_history),
        "jobProgress": job.progress,
        "estimatedCost": cost.model_dump() if (cost := estimated_cost(control, job, spec)) else None,
        "run": job.progress.get("run"),
        "processes": job.progress.get("processes", []),
        "notes": job.notes,
    }


def estimated_cost(control: ControlPlane, job: Job, spec: TuningSpec) -> Money | None:
    """What the whole job costs, reckoned from the steps it has taken; None before the first, or where no price is set."""
    run = job.progress.get("run") or {}
    step, tokens = run.get("step") or 0, run.get("trained_tokens") or 0
    try:
        prices = load_prices(control.settings.data_dir)
    except InvalidArgument as error:
        log.warning("no job shows its cost: %s", error.message)
        return None
    if prices.currency is None or not step or job.started is None:
        return None
    share = (run.get("total_steps") or step) / step
    wall = (job.completed or time.time()) - job.started
    hours = run.get("seconds", wall) / 3600  # runs of earlier versions did not measure themselves
    price = prices.of(spec.base_model).training_per_million
    cost = (tokens / 1e6 * price + hours * prices.machine_hour) * (1.0 if job.completed else share)
    units, rest = divmod(round(cost * 1e9), 10**9)
    return Money(currency_code=prices.currency, units=str(units), nanos=rest)


def training_wire(spec: TuningSpec) -> dict[str, Any]:
    """The training options in force: at the top of an SFT job, in `trainingConfig` of a DPO job."""
    source = {"warmStartFrom": spec.warm_start_from} if spec.warm_start_from else {"baseModel": spec.base_model}
    decay = {} if spec.schedule == "constant" else {"minLrRatio": spec.min_lr_ratio, "decayRatio": spec.decay_ratio}
    context = {"maxContextLength": spec.max_context_length} if spec.max_context_length else {}
    return {
        **source,
        **context,
        "outputModel": spec.output_model,
        "epochs": spec.epochs,
        "batchSizeSamples": spec.batch_size_samples,
        "learningRate": spec.learning_rate,
        "learningRateWarmupSteps": spec.warmup_steps,
        "lrScheduler": {spec.schedule: decay},
        "loraRank": spec.lora_rank,
        "optimizerWeightDecay": spec.weight_decay,
    }


def file_urls(control: ControlPlane, request: Request, job: Job) -> dict[str, Any]:
    """Signed URLs of what the run has written so far, by wire name."""

    def url(name: str) -> str | None:
        there = _file(control, job, name) is not None
        return control.signed_url(request, "GET", file_path(job.name, name)) if there else None

    steps = sorted((control.settings.run_dir(short_id(job.name)) / "evaluation").glob("step-*.json"))
    names = [(match.group(1), path) for path in steps if (match := _EVALUATION.fullmatch(f"evaluation/{path.name}"))]
    return {
        "metricsFileSignedUrl": url(METRICS),
        "renderSamplesSignedUrl": url(RENDER_SAMPLES),
        "trainerLogsSignedUrl": url(TRAINER_LOG),
        "evaluationRowsSignedUrls": {
            str(int(step)): control.signed_url(request, "GET", file_path(job.name, f"evaluation/{path.name}"))
            for step, path in names
        },
    }


def metrics_endpoint(control: ControlPlane, request: Request, job: Job) -> dict[str, Any]:
    """A signed URL of the metrics. Raises NotFound before their first line."""
    if _file(control, job, METRICS) is None:
        raise NotFound(f"The job {job.name} has no metrics yet; its first step writes them.")
    return {"signedUrl": control.signed_url(request, "GET", file_path(job.name, METRICS))}


def file_path(name: str, filename: str) -> str:
    """Path of the URL of one file of a job."""
    return f"/v1/{name}/files/{filename}"


def read_file(
    control: ControlPlane, kind: str, account: str, job_id: str, filename: str, query: Mapping[str, str]
) -> Response:
    """One file of a run, by signed URL; of one that is being written, its whole lines. Raises NotFound, PermissionDenied."""
    name = resource_name(account, table.NOUNS[kind], job_id)
    control.signer.check("GET", file_path(name, filename), query)
    with reading(control.sessions) as session:
        job = table.get_tuning_job(session, kind, name)
    path = _file(control, job, filename)
    if path is None:
        raise NotFound(f"The job {name} has no file {filename} (yet).")
    content = path.read_bytes()
    if filename.endswith(".jsonl"):
        content = content[: content.rfind(b"\n") + 1]
    media = {".jsonl": "application/jsonl", ".json": "application/json"}.get(Path(filename).suffix, "text/plain")
    download = f'attachment; filename="{job_id}-{Path(filename).name}"'
    return Response(content, media_type=media, headers={"content-disposition": download, "cache-control": "no-store"})


def _file(control: ControlPlane, job: Job, filename: str) -> Path | None:
    """Where one of the files that may be read lies; None for any other name, or when it is not there."""
    if filename == TRAINER_LOG:
        path = control.settings.path("logs", LOG_NAME.format(short_id(job.name)))
    elif filename in (METRICS, RENDER_SAMPLES) or _EVALUATION.fullmatch(filename):
        path = control.settings.run_dir(short_id(job.name)) / filename
    else:
        return None
    return path if path.is_file() else None
