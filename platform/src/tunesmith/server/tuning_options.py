"""Judges the options of an SFT or DPO job that no table is needed for: what cannot take effect, and what contradicts itself.

An option that would be lost silently is refused by its wire name, with what to use instead. Flags that only mean something on a
hosted cluster are noted in the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith.catalog import TuningDefaults
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.dpo_jobs import DpoJobInput, PreferenceLossConfig
from tunesmith.schemas.supervised_fine_tuning_jobs import SftJobInput
from tunesmith.schemas.tuning_fields import LrScheduler, TuningFields, TuningJobInput
from tunesmith.server.rft_options import Note

HISTORY_PREFIX = "THINKING_TRACE_HISTORY_MODE_"
_HISTORIES = {"UNSPECIFIED": "default", "INTERLEAVED": "interleaved", "PRESERVED": "preserved"}
_ONE_MACHINE = "there is one machine here, nothing to place"
_NOTED = {
    "reservationTarget": _ONE_MACHINE,
    "useReservation": _ONE_MACHINE,
    "nodes": _ONE_MACHINE,
    "purpose": _ONE_MACHINE,
    "usePurpose": _ONE_MACHINE,
    "isTurbo": "every job here runs as fast as this machine can",
    "metricsFileSignedUrl": "the platform makes this URL",
}
_OWN_STORE = "datasets live in this platform's store; upload the rows"
_BEST_KEPT = "set evaluationDataset or evalAutoCarveout: the best checkpoint by evaluation loss is kept"


@dataclass(frozen=True)
class Tuning:
    """The options of one job, whichever kind of body they came in."""

    loss: str
    """SFT, DPO or ORPO."""
    job: TuningJobInput
    fields: TuningFields
    prefix: str
    """In front of the wire names of `fields`: nothing, or `trainingConfig.`"""
    notes: list[Note]
    history: str
    beta: float
    orpo_lambda: float


def read_sft(body: SftJobInput) -> Tuning:
    """The options of an SFT job. Raises InvalidArgument naming the first one that cannot take effect."""
    _refuse(body.early_stop, "earlyStop", _BEST_KEPT)
    for name in ("mtp_enabled", "mtp_num_draft_tokens", "mtp_freeze_base_model"):
        alias = SftJobInput.model_fields[name].alias or name
        _refuse(getattr(body, name), alias, "multi-token prediction heads are not trained here")
    defaults = TuningDefaults()
    notes = _check_common(body, body, "")
    return Tuning("SFT", body, body, "", notes, history_of(body), defaults.beta, defaults.orpo_lambda)


def read_dpo(body: DpoJobInput) -> Tuning:
    """The options of a DPO or ORPO job. Raises InvalidArgument naming the first one that cannot take effect."""
    loss, beta, orpo_lambda = _loss_of(body.loss_config)
    notes = _check_common(body, body.training_config, "trainingConfig.")
    dpo = body.loss_config.dpo
    for name in ("refCacheConcurrency", "refCacheBatchSize"):
        if dpo and name in dpo.given():
            notes.append(Note(f"lossConfig.dpo.{name}", "the reference pass fills its batches by tokens here"))
    return Tuning(loss, body, body.training_config, "trainingConfig.", notes, history_of(body), beta, orpo_lambda)


def schedule_of(scheduler: LrScheduler | None, prefix: str) -> tuple[str, float, float]:
    """Kind, floor and decay ratio of a learning-rate schedule; constant when none is named. Raises InvalidArgument."""
    if scheduler is None:
        return "constant", 0.0, 0.0
    named = [name for name in ("constant", "linear", "cosine") if getattr(scheduler, name) is not None]
    if len(named) != 1:
        raise InvalidArgument(f"{prefix}lrScheduler must have exactly one of constant, linear and cosine.")
    decay = scheduler.linear or scheduler.cosine
    return named[0], decay.min_lr_ratio if decay else 0.0, decay.decay_ratio if decay else 0.0


def history_of(body: TuningJobInput) -> str:
    """Which earlier thinking traces are rendered. Raises InvalidArgument."""
    given = body.thinking_trace_history_mode
    mode = (given or "UNSPECIFIED").upper().removeprefix(HISTORY_PREFIX)
    if mode not in _HISTORIES:
        raise InvalidArgument(
            f"thinkingTraceHistoryMode {given!r} is not known: use {HISTORY_PREFIX}INTERLEAVED, {HISTORY_PREFIX}PRESERVED, "
            "or leave it out for what the model's template does."
        )
    return _HISTORIES[mode]


def history_wire(history: str) -> str:
    """`interleaved` -> `THINKING_TRACE_HISTORY_MODE_INTERLEAVED`."""
    return HISTORY_PREFIX + next(name for name, value in _HISTORIES.items() if value == history)


def _loss_of(loss: PreferenceLossConfig) -> tuple[str, float, float]:
    method, defaults = (loss.method or "DPO").upper(), TuningDefaults()
    if method == "METHOD_UNSPECIFIED":
        method = "DPO"
    if method not in ("DPO", "ORPO"):
        raise InvalidArgument(f"lossConfig.method {loss.method} is not a loss of DPO jobs: use DPO or ORPO.")
    _refuse(loss.kl_beta, "lossConfig.klBeta", "it belongs to RFT jobs; the strength of DPO is lossConfig.dpo.beta")
    beta = loss.dpo.beta if loss.dpo else None
    if method == "ORPO" and beta is not None:
        raise InvalidArgument("lossConfig.dpo.beta has no effect with method ORPO: set lossConfig.orpoLambda.")
    if method == "DPO" and loss.orpo_lambda is not None:
        raise InvalidArgument("lossConfig.orpoLambda has no effect with method DPO: set lossConfig.dpo.beta.")
    if beta is not None and not 0 < beta < 0.5:
        raise InvalidArgument(f"DPO beta {beta:g} outside valid range (0, 0.5) (lossConfig.dpo.beta)")
    if loss.orpo_lambda is not None and not 0 < loss.orpo_lambda <= 1:
        raise InvalidArgument(f"ORPO lambda {loss.orpo_lambda:g} outside valid range (0, 1] (lossConfig.orpoLambda)")
    return method, _value(beta, defaults.beta), _value(loss.orpo_lambda, defaults.orpo_lambda)


def _check_common(job: TuningJobInput, fields: TuningFields, prefix: str) -> list[Note]:
    _refuse(job.aws_s3_config, "awsS3Config", _OWN_STORE)
    _refuse(job.azure_blob_storage_config, "azureBlobStorageConfig", _OWN_STORE)
    _refuse(job.extra_values, "extraValues", "there are no options beside the documented ones")
    _refuse(job.renderer_hugging_face_repo_id, "rendererHuggingFaceRepoId", "the base model decides how it is rendered")
    if any((job.wandb_config or {}).values()):
        raise InvalidArgument(
            "wandbConfig: Weights & Biases is not supported. The job's metricsFileSignedUrl has all figures, as JSONL."
        )
    samples = f"set {prefix}batchSizeSamples, the samples of an optimizer step"
    _refuse(fields.batch_size, f"{prefix}batchSize", samples)
    _refuse(fields.gradient_accumulation_steps, f"{prefix}gradientAccumulationSteps", samples)
    _refuse(fields.jinja_template, f"{prefix}jinjaTemplate", "the base model's own chat template is used")
    _refuse(
        fields.sampler_checkpoint_save_interval_steps,
        f"{prefix}samplerCheckpointSaveIntervalSteps",
        "the last two checkpoints and the best one are kept, and the best or last one becomes the model",
    )
    schedule_of(fields.lr_scheduler, prefix)
    given = job.given()
    notes = [Note(name, reason) for name, reason in _NOTED.items() if given.get(name)]
    if fields.region and fields.region != "REGION_UNSPECIFIED":
        notes.append(Note(f"{prefix}region", _ONE_MACHINE))
    return notes


def _value(given: float | None, default: float) -> float:
    return default if given is None else given


def _refuse(value: Any, name: str, instead: str) -> None:
    if value:
        raise InvalidArgument(f"{name} cannot take effect here: {instead}. Leave it out.")
