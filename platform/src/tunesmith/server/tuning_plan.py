"""From the options of an SFT or DPO job to the job that will run: references checked, ranges checked, every default filled in."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy.orm import Session

from tunesmith.catalog import Bounds
from tunesmith.db.datasets import row_facts
from tunesmith.db.models import get_model
from tunesmith.db.tables import Dataset
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.names import resource_name
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.server.base_models import BaseModel
from tunesmith.server.rft_plan import adapter_config, free_output_model, ready_dataset, shown
from tunesmith.server.tuning_options import Tuning, schedule_of

FEWEST_ROWS = 3
MOST_ROWS = 3_000_000
"""Documented limits of a dataset; the upper one also of rows x epochs."""
_T = TypeVar("_T")


def check_values(session: Session, account: str, job_id: str, options: Tuning, base: BaseModel) -> dict[str, Any]:
    """Fields of `TuningSpec` that need no dataset, defaults filled in.

    Raises InvalidArgument, NotFound or AlreadyExists, each naming the field.
    """
    fields, prefix, defaults = options.fields, options.prefix, base.training.tuning
    adapter = _adapter(session, account, fields.warm_start_from)
    rank = _value(fields.lora_rank, adapter.get("r") or defaults.lora_rank)
    batch = defaults.sft_batch if options.loss == "SFT" else defaults.dpo_batch
    values = {
        "learning_rate": _value(fields.learning_rate, defaults.learning_rate(options.loss, rank)),
        "lora_rank": rank,
        "epochs": float(_value(fields.epochs, defaults.epochs)),
        "batch_size_samples": _value(fields.batch_size_samples, batch),
    }
    bounds = {
        "learning_rate": ("Learning rate", "learningRate", defaults.learning_rate_bounds),
        "epochs": ("Epochs", "epochs", defaults.epochs_bounds),
        "batch_size_samples": ("Batch size", "batchSizeSamples", defaults.batch_bounds),
        # An adapter made elsewhere may have a rank that nobody could ask for; it is continued as it is.
        "lora_rank": ("LoRA rank", "loraRank", Bounds() if adapter.get("r") else defaults.lora_rank_bounds),
    }
    for name, (label, field, bound) in bounds.items():
        if values[name] not in bound:
            raise InvalidArgument(
                f"{label} {values[name]:g} outside valid range {shown(bound)} for {base.name} ({prefix}{field})"
            )
    if adapter and rank != adapter.get("r"):
        raise InvalidArgument(
            f"{prefix}loraRank {rank} does not fit {fields.warm_start_from}, whose rank is {adapter.get('r')}. Leave it out."
        )
    _check_context(options, base)
    schedule, min_lr_ratio, decay_ratio = schedule_of(fields.lr_scheduler, prefix)
    warm_start = fields.warm_start_from
    return {
        **values,
        "loss": options.loss,
        "base_model": base.name,
        "warm_start_from": resource_name(account, "models", warm_start) if warm_start else None,
        "output_model": free_output_model(session, account, job_id, fields.output_model, f"{prefix}outputModel"),
        "schedule": schedule,
        "min_lr_ratio": min_lr_ratio,
        "decay_ratio": decay_ratio,
        "warmup_steps": _at_least_zero(fields.learning_rate_warmup_steps or 0, f"{prefix}learningRateWarmupSteps"),
        "weight_decay": _at_least_zero(
            _value(fields.optimizer_weight_decay, defaults.weight_decay), f"{prefix}optimizerWeightDecay"
        ),
        "lora_alpha": adapter.get("lora_alpha") or defaults.lora_alpha,
        "beta": options.beta,
        "orpo_lambda": options.orpo_lambda,
        "max_context_length": fields.max_context_length,
        "thinking_history": options.history,
    }


def plan_job(session: Session, account: str, job_id: str, options: Tuning, base: BaseModel) -> TuningSpec:
    """The job, resolved. Raises InvalidArgument, FailedPrecondition, NotFound or AlreadyExists, each naming the field."""
    values = check_values(session, account, job_id, options, base)
    dataset = ready_dataset(session, account, options.job.dataset, "dataset")
    _check_rows(dataset, "dataset", options.loss)
    held_out = None
    if options.job.evaluation_dataset:
        held_out = ready_dataset(session, account, options.job.evaluation_dataset, "evaluationDataset")
        _check_rows(held_out, "evaluationDataset", options.loss)
        if held_out.name == dataset.name:
            raise InvalidArgument(
                "evaluationDataset is the training dataset: held-out rows must not be trained on. Use evalAutoCarveout."
            )
    _check_count(dataset, values["epochs"], options.prefix)
    return TuningSpec(
        dataset=dataset.name,
        evaluation_dataset=held_out.name if held_out else None,
        eval_auto_carveout=bool(options.job.eval_auto_carveout),
        example_count=dataset.example_count,
        request=options.job.given(),
        **values,
    )


def check_sources(options: Tuning) -> None:
    """What contradicts itself whatever is in the tables. Raises InvalidArgument."""
    fields, prefix = options.fields, options.prefix
    if fields.base_model and fields.warm_start_from:
        raise InvalidArgument(f"Give exactly one of {prefix}baseModel and {prefix}warmStartFrom, not both.")
    if not fields.base_model and not fields.warm_start_from:
        raise InvalidArgument(
            f"Give one of {prefix}baseModel (--base-model) and {prefix}warmStartFrom (--warm-start-from)."
        )
    if options.job.evaluation_dataset and options.job.eval_auto_carveout:
        raise InvalidArgument("evalAutoCarveout has no effect with an evaluationDataset; give one of them.")


def _check_rows(dataset: Dataset, field: str, loss: str) -> None:
    kind, unanswered = row_facts(dataset)
    wanted = "MESSAGES" if loss == "SFT" else "PREFERENCES"
    if kind != wanted:
        what = {
            "MESSAGES": "conversations ('messages'), which SFT jobs train on (tunesmith sftj)",
            "PREFERENCES": "preferences ('preferred_output' and 'non_preferred_output'), which DPO jobs train on (tunesmith dpoj)",
        }
        raise InvalidArgument(f"{field}: the rows of {dataset.name} are {what[kind]}; this is a job with loss {loss}.")
    if unanswered is not None:
        raise InvalidArgument(
            f"Dataset validation failed: row {unanswered} of {dataset.name} has no message of the assistant, so there is "
            f"nothing in it to learn ({field}). Add the answer, or remove the row."
        )


def _check_count(dataset: Dataset, epochs: float, prefix: str) -> None:
    count = dataset.example_count
    if not FEWEST_ROWS <= count <= MOST_ROWS:
        raise InvalidArgument(
            f"Dataset validation failed: {dataset.name} has {count} rows; a job needs {FEWEST_ROWS} to {MOST_ROWS:,} (dataset)."
        )
    if count * epochs > MOST_ROWS:
        raise InvalidArgument(
            f"Epochs {epochs:g} times {count} rows are more than {MOST_ROWS:,} examples ({prefix}epochs). Use fewer epochs."
        )


def _check_context(options: Tuning, base: BaseModel) -> None:
    wanted, have = options.fields.max_context_length, base.context_length
    if wanted is not None and (wanted < 2 or (have is not None and wanted > have)):
        raise InvalidArgument(
            f"{options.prefix}maxContextLength {wanted} outside valid range [2, {have or '...'}] for {base.name}: "
            "the upper end is the base model's context in tokens."
        )


def _adapter(session: Session, account: str, warm_start_from: str | None) -> dict[str, Any]:
    """PEFT configuration of the adapter to continue from; empty when there is none."""
    if warm_start_from is None:
        return {}
    return adapter_config(get_model(session, resource_name(account, "models", warm_start_from)))


def _value(given: _T | None, default: _T) -> _T:
    return default if given is None else given


def _at_least_zero(value: float, field: str) -> float:
    if value < 0:
        raise InvalidArgument(f"{field} {value:g} outside valid range: it must be at least 0.")
    return value
