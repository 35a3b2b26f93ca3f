"""From the body of a create to the job that will run: references checked, ranges checked, every default filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.catalog import Bounds, is_listed
from tunesmith.db.datasets import READY, get_dataset
from tunesmith.db.evaluators import ACTIVE, get_evaluator
from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.models import FULL_MODEL, get_model
from tunesmith.db.reinforcement_fine_tuning_jobs import policy_job, policy_owner
from tunesmith.db.tables import Dataset, Evaluator, Model, Secret
from tunesmith.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from tunesmith.runs.config import MAX_STALENESS
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id, versioned_name
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJobInput
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.base_models import BaseModel
from tunesmith.server.rft_options import WANDB_SECRET, check_deadline, check_preflight, extra_body_of, loss_of

MAX_CONCURRENT_ROLLOUTS = 96
_CONCURRENCY = Bounds(1, 4096)
_STALENESS = Bounds(0, MAX_STALENESS)
_T = TypeVar("_T")
_Number = TypeVar("_Number", int, float)


def named_base(
    session: Session, account: str, base_model: str | None, warm_start_from: str | None, prefix: str = "trainingConfig."
) -> str:
    """The name of the base model that a job is about: its own, or that of the adapter it continues.

    Raises InvalidArgument when base model and adapter are confused, NotFound.
    """
    if warm_start_from is None:
        name = base_model or ""
        model = session.get(Model, resource_name(account, "models", name)) if _ours(account, name) else None
        if model is not None and model.kind != FULL_MODEL:
            raise InvalidArgument(
                f"{prefix}baseModel: {model.name} is not of kind base_model, but {model.kind}. "
                "To continue from it, give it as warmStartFrom."
            )
        return model.name if model is not None else name
    if is_listed(warm_start_from):
        raise InvalidArgument(
            f"{prefix}warmStartFrom: {warm_start_from} is a base model, not an adapter. Give it as baseModel."
        )
    model = get_model(session, resource_name(account, "models", warm_start_from))
    if model.kind == FULL_MODEL:
        raise InvalidArgument(
            f"{prefix}warmStartFrom: {model.name} is a full model, not an adapter. Give it as baseModel."
        )
    return model.base_model


def check_values(session: Session, account: str, job_id: str, body: RftJobInput, base: BaseModel) -> dict[str, Any]:
    """Fields of `RftSpec` that need neither dataset nor evaluator, defaults filled in.

    Raises InvalidArgument, NotFound or AlreadyExists, each naming the field.
    """
    training, sampling = body.training_config, body.inference_parameters
    loss, kl_beta = loss_of(body.loss_config)
    stop, seed = extra_body_of(sampling)
    defaults = base.training
    own_rank = _rank(session, account, training.warm_start_from)
    values = {
        "learning_rate": _value(training.learning_rate, defaults.learning_rate),
        "lora_rank": _value(training.lora_rank, own_rank or defaults.lora_rank),
        "epochs": _whole(training.epochs, defaults.epochs),
        "n": _value(sampling.response_candidates_count, defaults.n),
        "temperature": _value(sampling.temperature, defaults.temperature),
        "max_tokens": _value(sampling.max_output_tokens, defaults.max_tokens),
        "max_concurrent_rollouts": _value(body.max_concurrent_rollouts, MAX_CONCURRENT_ROLLOUTS),
        "max_staleness": _value(body.max_staleness, 0),
    }
    _check_ranges(values, base, continued=own_rank is not None)
    _check_warm_start(training.warm_start_from, own_rank, values["lora_rank"])
    _check_context(body, values["max_tokens"], base)
    _check_chunk_size(body.chunk_size, base)
    check_deadline(body.group_deadline_seconds, body.group_quorum, values["n"])
    check_preflight(body.preflight, warm_start=training.warm_start_from is not None)
    return {
        **values,
        "base_model": base.name,
        "warm_start_from": _name_of(account, "models", training.warm_start_from),
        "output_model": _output_model(session, account, job_id, training.output_model),
        "warmup_steps": _at_least_zero(
            training.learning_rate_warmup_steps or 0, "trainingConfig.learningRateWarmupSteps"
        ),
        "weight_decay": _at_least_zero(training.optimizer_weight_decay or 0.0, "trainingConfig.optimizerWeightDecay"),
        "max_context_length": training.max_context_length,
        "loss": loss,
        "kl_beta": kl_beta,
        "stop": stop,
        "seed": seed,
        "group_deadline_seconds": body.group_deadline_seconds,
        "group_quorum": body.group_quorum,
        "keep_all_checkpoints": bool(body.keep_all_checkpoints),
        "preflight_rows": body.preflight.rows,
        "preflight_only": bool(body.preflight.only),
        "preflight_temperatures": body.preflight.temperatures or [],
        "evaluation_every_steps": _every_steps(body),
    }


def plan_job(session: Session, account: str, job_id: str, body: RftJobInput, base: BaseModel) -> RftSpec:
    """The job, resolved. Raises InvalidArgument, FailedPrecondition, NotFound or AlreadyExists, each naming the field."""
    dataset = ready_dataset(session, account, body.dataset, "dataset")
    held_out = (
        ready_dataset(session, account, body.evaluation_dataset, "evaluationDataset")
        if body.evaluation_dataset
        else None
    )
    _check_split(body, dataset, held_out)
    evaluator = active_evaluator(session, account, body.evaluator)
    audit = active_evaluator(session, account, body.audit_evaluator, "auditEvaluator") if body.audit_evaluator else None
    if audit is not None and audit.name == evaluator.name:
        raise InvalidArgument(
            "auditEvaluator is the evaluator that is trained on: a second opinion must come from another one."
        )
    return RftSpec(
        dataset=dataset.name,
        evaluation_dataset=held_out.name if held_out else None,
        eval_auto_carveout=bool(body.eval_auto_carveout),
        example_count=dataset.example_count,
        evaluator=evaluator.name,
        evaluator_version=evaluator.version,
        entry_point=str(evaluator.spec.get("entryPoint", "")),
        evaluator_dir=str(evaluator.build_dir),
        audit_evaluator=audit.name if audit else None,
        audit_evaluator_version=audit.version if audit else 0,
        audit_entry_point=str(audit.spec.get("entryPoint", "")) if audit else "",
        audit_evaluator_dir=str(audit.build_dir) if audit else "",
        chunk_size=_chunk_size(body.chunk_size, dataset.example_count, base),
        wandb=_wandb(session, account, body),
        request=body.given(),
        **check_values(session, account, job_id, body, base),
    )


def ready_dataset(session: Session, account: str, name: str, field: str) -> Dataset:
    """A dataset that has its rows. Raises NotFound, or FailedPrecondition naming the field and why it is not READY."""
    dataset = get_dataset(session, resource_name(account, "datasets", name))
    if dataset.state != READY:
        reason = dataset.status.get("message") or "its rows were not uploaded"
        raise FailedPrecondition(f"{field}: {dataset.name} is not READY but {dataset.state}: {reason}")
    return dataset


def active_evaluator(session: Session, account: str, name: str, field: str = "evaluator") -> Evaluator:
    """An evaluator whose current version is built; `name` may pin that version. Raises NotFound, FailedPrecondition."""
    plain, pinned = versioned_name(name)
    evaluator = get_evaluator(session, resource_name(account, "evaluators", plain))
    if pinned is not None and pinned != evaluator.version:
        what = "was uploaded anew since" if pinned < evaluator.version else f"has no version {pinned} yet"
        raise FailedPrecondition(
            f"{field}: {evaluator.name} {what} (version {evaluator.version} now, {evaluator.state}). "
            "Name that version, or none for the current one."
        )
    if evaluator.state != ACTIVE or not evaluator.build_dir:
        reason = evaluator.status.get("message") or "its build has not ended"
        raise FailedPrecondition(f"{field}: {evaluator.name} is not ACTIVE but {evaluator.state}: {reason}")
    return evaluator


def _wandb(session: Session, account: str, body: RftJobInput) -> dict[str, str] | None:
    """The job's run at Weights & Biases. Raises FailedPrecondition when the account has no key for it."""
    wandb = body.wandb_config
    if not wandb.enabled:
        return None
    mine = Secret.account == account_name(account)
    if session.scalar(select(Secret.name).where(mine, Secret.key_name == WANDB_SECRET).limit(1)) is None:
        raise FailedPrecondition(
            f"wandbConfig.enabled: the account has no secret {WANDB_SECRET}. Store it, then start the job."
        )
    given = {"project": wandb.project, "entity": wandb.entity, "run_id": wandb.run_id}
    return {name: value for name, value in given.items() if value}


def _check_split(body: RftJobInput, dataset: Dataset, held_out: Dataset | None) -> None:
    if held_out is not None and body.eval_auto_carveout:
        raise InvalidArgument("evalAutoCarveout has no effect with an evaluationDataset; give one of them.")
    if held_out is not None and held_out.name == dataset.name:
        raise InvalidArgument(
            "evaluationDataset is the training dataset: held-out rows must not be trained on. Use evalAutoCarveout."
        )
    if body.eval_auto_carveout and dataset.example_count < 2:
        raise InvalidArgument("evalAutoCarveout needs at least 2 rows in the dataset.")


def _every_steps(body: RftJobInput) -> int | None:
    every = body.evaluation_every_steps
    if every is None:
        return None
    if every < 1:
        raise InvalidArgument(f"evaluationEverySteps {every} outside valid range: it must be at least 1.")
    if not body.evaluation_dataset and not body.eval_auto_carveout:
        raise InvalidArgument(
            "evaluationEverySteps has no effect without held-out rows: give an evaluationDataset, or set evalAutoCarveout."
        )
    return every


def _check_ranges(values: dict[str, Any], base: BaseModel, *, continued: bool) -> None:
    defaults = base.training
    # An adapter may have a rank that nobody could ask for here (SFT makes some of 1 and 2); it is continued as it is.
    ranks = Bounds() if continued else defaults.lora_rank_bounds
    bounds = {
        "learning_rate": ("Learning rate", "trainingConfig.learningRate", defaults.learning_rate_bounds),
        "lora_rank": ("LoRA rank", "trainingConfig.loraRank", ranks),
        "epochs": ("Epochs", "trainingConfig.epochs", defaults.epochs_bounds),
        "n": ("Response candidates", "inferenceParameters.responseCandidatesCount", defaults.n_bounds),
        "temperature": ("Temperature", "inferenceParameters.temperature", defaults.temperature_bounds),
        "max_tokens": ("Max output tokens", "inferenceParameters.maxOutputTokens", defaults.max_tokens_bounds),
        "max_concurrent_rollouts": ("Concurrent rollouts", "maxConcurrentRollouts", _CONCURRENCY),
        "max_staleness": ("Staleness", "maxStaleness", _STALENESS),
    }
    for name, (label, field, bound) in bounds.items():
        if values[name] not in bound:
            raise InvalidArgument(
                f"{label} {values[name]:g} outside valid range {shown(bound)} for {base.name} ({field})"
            )


def _check_warm_start(warm_start_from: str | None, own: int | None, rank: int) -> None:
    if own is not None and rank != own:
        raise InvalidArgument(
            f"trainingConfig.loraRank {rank} does not fit {warm_start_from}, whose rank is {own}. Leave it out."
        )


def _check_context(body: RftJobInput, max_tokens: int, base: BaseModel) -> None:
    wanted, have = body.training_config.max_context_length, base.context_length
    if wanted is not None and (wanted < 2 or (have is not None and wanted > have)):
        raise InvalidArgument(
            f"trainingConfig.maxContextLength {wanted} outside valid range [2, {have or '...'}] for {base.name}: "
            "the upper end is the base model's context in tokens."
        )
    context = min(wanted or have or max_tokens + 1, have or wanted or max_tokens + 1)
    if max_tokens >= context:
        raise InvalidArgument(
            f"inferenceParameters.maxOutputTokens {max_tokens} leaves no room for a prompt in a context of {context} tokens."
        )


def _check_chunk_size(value: int | None, base: BaseModel) -> None:
    bounds = base.training.chunk_size_bounds
    if value not in (None, 0, -1) and value not in bounds:
        raise InvalidArgument(
            f"chunkSize {value} outside valid range {shown(bounds)}: -1 is off, 0 or absent the default."
        )


def _chunk_size(value: int | None, rows: int, base: BaseModel) -> int | None:
    """Rows of one step; None = the whole epoch."""
    if value in (None, 0):
        return base.training.chunk_for(rows)
    return None if value == -1 else value


def _output_model(session: Session, account: str, job_id: str, given: str | None) -> str:
    name = free_output_model(session, account, job_id, given, "trainingConfig.outputModel")
    if policy_job(name) == job_id:
        raise AlreadyExists(
            f"trainingConfig.outputModel: {name} is the name of a policy version of the job {job_id}. Choose another name."
        )
    return name


def free_output_model(session: Session, account: str, job_id: str, given: str | None, field: str) -> str:
    """Resource name of the model that a job is to make: what was given, else the job's own id.

    Raises InvalidArgument, or AlreadyExists when the name is taken or about to be.
    """
    name = resource_name(account, "models", given or job_id)
    check_id(short_id(name), field)
    if session.get(Model, name) is not None:
        raise AlreadyExists(f"{field}: the model {name} exists already. Choose another name, or delete it.")
    makers = running_jobs_using(session, account_name(account), name, ("output_model",))
    if makers:
        raise AlreadyExists(f"{field}: {makers[0]} is making a model of the name {name} already.")
    owner = policy_owner(session, account_name(account), name)
    if owner is not None:
        raise AlreadyExists(f"{field}: {name} is the name of a policy version of the job {owner}. Choose another name.")
    return name


def _rank(session: Session, account: str, warm_start_from: str | None) -> int | None:
    if warm_start_from is None:
        return None
    model = get_model(session, resource_name(account, "models", warm_start_from))
    return adapter_config(model).get("r")


def adapter_config(model: Model) -> dict[str, Any]:
    """The PEFT configuration of an adapter; empty when it cannot be read."""
    try:
        return json.loads(Path(model.adapter_path, "adapter_config.json").read_text())
    except (OSError, ValueError):
        return {}


def _ours(account: str, name: str) -> bool:
    return name.startswith(f"{account_name(account)}/models/") or "/" not in name


def _name_of(account: str, noun: str, identity: str | None) -> str | None:
    return resource_name(account, noun, identity) if identity else None


def _value(given: _T | None, default: _T) -> _T:
    return default if given is None else given


def _whole(value: float | None, default: int) -> int:
    if value is None:
        return default
    if value != int(value):
        raise InvalidArgument(f"trainingConfig.epochs {value:g} must be a whole number.")
    return int(value)


def _at_least_zero(value: _Number, field: str) -> _Number:
    if value < 0:
        raise InvalidArgument(f"{field} {value:g} outside valid range: it must be at least 0.")
    return value


def shown(bounds: Bounds) -> str:
    """`[1e-5, 0.0005]`, or `{4, 8, 16}`."""
    if bounds.choices:
        return "{" + ", ".join(str(choice) for choice in bounds.choices) + "}"
    return f"[{_number(bounds.low)}, {_number(bounds.high)}]"


def _number(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")
