"""Judges the options of an RFT job that no table is needed for: what cannot take effect, and what contradicts itself.

An option that would be lost silently is refused by its wire name. The exceptions are what published clients always send, and
flags that only mean something on a hosted cluster: those are noted in the job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tunesmith.errors import InvalidArgument
from tunesmith.runs.config import LossMethod
from tunesmith.schemas.reinforcement_fine_tuning_jobs import (
    InferenceParameters,
    LossConfig,
    Preflight,
    RftJobInput,
    TrainingConfig,
)

DEFAULT_LOSS = LossMethod.DEFAULT.value
WANDB_SECRET = "WANDB_API_KEY"
"""Name of the secret that holds the account's key to Weights & Biases."""
_METHODS = [method.value for method in LossMethod if method is not LossMethod.DEFAULT]
MOST_PREFLIGHT_ROWS = 1000
_ONE_MACHINE = "there is one machine here, nothing to place"
_NOTED = {
    "nodeCount": _ONE_MACHINE,
    "reservationTarget": _ONE_MACHINE,
    "maxInferenceReplicaCount": "one engine serves each base model here",
}
_PER_STEP = "one chunk is one optimizer step here: set chunkSize and responseCandidatesCount"


@dataclass(frozen=True)
class Note:
    """An option that was accepted without effect."""

    option: str
    reason: str


def check_options(body: RftJobInput) -> list[Note]:
    """Refuse what cannot take effect. Raises InvalidArgument naming the option; returns what is only noted."""
    _refuse(body.mcp_server, "mcpServer", "MCP servers belong to the evaluator's project")
    _refuse(body.aws_s3_config, "awsS3Config", "datasets live in this platform's store; upload the rows")
    _refuse(
        body.azure_blob_storage_config,
        "azureBlobStorageConfig",
        "datasets live in this platform's store; upload the rows",
    )
    _refuse(
        body.max_concurrent_evaluations,
        "maxConcurrentEvaluations",
        "a rollout is scored as soon as it ends; bound both with maxConcurrentRollouts",
    )
    _check_wandb(body)
    _check_training(body.training_config)
    notes = [Note(name, reason) for name, reason in _NOTED.items() if name in body.given()]
    if body.training_config.region:
        notes.append(Note("trainingConfig.region", _ONE_MACHINE))
    _check_support(body.inference_parameters)
    return notes


def loss_of(loss: LossConfig) -> tuple[str, float | None]:
    """Loss method and KL coefficient of a job. Raises InvalidArgument with the documented words where there are any."""
    method = (loss.method or "").upper().replace("-", "_")
    if method in ("", "METHOD_UNSPECIFIED"):
        method = DEFAULT_LOSS
    elif method not in _METHODS:
        raise InvalidArgument(
            f"lossConfig.method {loss.method} is not a loss of RFT jobs: use {', '.join(_METHODS)}, or none."
        )
    if loss.dpo:
        raise InvalidArgument("lossConfig.dpo has no effect in an RFT job; remove it.")
    beta = loss.kl_beta
    if beta is not None and beta < 0:
        raise InvalidArgument(f"lossConfig.klBeta {beta:g} outside valid range: it must be at least 0.")
    if beta and method != "GRPO":
        if method == DEFAULT_LOSS:
            raise InvalidArgument(
                "lossConfig.klBeta takes effect with lossConfig.method GRPO only: the loss used when no method is named "
                "has no reference model. Name the method, or leave klBeta out."
            )
        raise InvalidArgument(f"loss_config.kl_beta must be 0/unset when method is {method}")
    return method, beta or None


def check_deadline(seconds: float | None, quorum: int | None, n: int) -> None:
    """Raise InvalidArgument when the deadline of a group of `n` rollouts could not take effect."""
    if seconds is None and quorum is None:
        return
    if seconds is None:
        raise InvalidArgument(
            "groupQuorum has no effect without groupDeadlineSeconds: groups wait for all of their rollouts."
        )
    if not (0 < seconds < float("inf")):
        raise InvalidArgument(f"groupDeadlineSeconds {seconds:g} outside valid range: it must be above 0.")
    if quorum is None:
        raise InvalidArgument(
            "groupDeadlineSeconds has no effect without groupQuorum: say with how many valid scores a group may go on."
        )
    if not 2 <= quorum < n:
        raise InvalidArgument(
            f"groupQuorum {quorum} outside valid range [2, {n - 1}]: a group of {n} rollouts needs two scores to compare, "
            f"and with all {n} there is nobody left to go on without."
        )


def check_preflight(asked: Preflight, *, warm_start: bool) -> None:
    """Raise InvalidArgument when a preflight could not be carried out as asked."""
    if asked.rows is not None and not 0 <= asked.rows <= MOST_PREFLIGHT_ROWS:
        raise InvalidArgument(f"preflight.rows {asked.rows} outside valid range [0, {MOST_PREFLIGHT_ROWS}]: 0 is off.")
    if asked.only and asked.rows == 0:
        raise InvalidArgument("preflight.only asks for nothing but a preflight, and preflight.rows 0 for none.")
    if not asked.temperatures:
        return
    if not asked.only:
        raise InvalidArgument(
            "preflight.temperatures take effect with preflight.only: a job's preflight has no baseline."
        )
    if warm_start:
        raise InvalidArgument("preflight.temperatures measure a base model, and this job continues from an adapter.")
    wrong = [value for value in asked.temperatures if not 0 <= value <= 2]
    if wrong or len(set(asked.temperatures)) != len(asked.temperatures) or len(asked.temperatures) > 8:
        raise InvalidArgument("preflight.temperatures must be at most 8 different numbers in 0 to 2.")


def extra_body_of(parameters: InferenceParameters) -> tuple[list[str], int]:
    """Stop strings and seed from `extraBody`. Raises InvalidArgument naming what else is in it."""
    if not parameters.extra_body:
        return [], 0
    try:
        extra = json.loads(parameters.extra_body)
    except ValueError:
        raise InvalidArgument("inferenceParameters.extraBody must be the text of a JSON object.") from None
    if not isinstance(extra, dict):
        raise InvalidArgument("inferenceParameters.extraBody must be the text of a JSON object.")
    unknown = sorted(set(extra) - {"stop", "seed"})
    if unknown:
        raise InvalidArgument(
            f"inferenceParameters.extraBody: {', '.join(unknown)} cannot take effect in rollouts; stop and seed can."
        )
    stop = extra.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > 16 or not all(isinstance(text, str) and text for text in stop):
        raise InvalidArgument(
            "inferenceParameters.extraBody.stop must be a non-empty string, or a list of at most 16 of them."
        )
    seed = extra.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise InvalidArgument("inferenceParameters.extraBody.seed must be a whole number from 0 to 2147483647.")
    return stop, seed


def _check_training(training: TrainingConfig) -> None:
    _refuse(training.batch_size, "trainingConfig.batchSize", _PER_STEP)
    _refuse(training.batch_size_samples, "trainingConfig.batchSizeSamples", _PER_STEP)
    if training.gradient_accumulation_steps != 1:
        _refuse(training.gradient_accumulation_steps, "trainingConfig.gradientAccumulationSteps", _PER_STEP)
    _refuse(
        training.sampler_checkpoint_save_interval_steps,
        "trainingConfig.samplerCheckpointSaveIntervalSteps",
        "every step is checkpointed, and the best or last one is promoted",
    )
    _refuse(training.jinja_template, "trainingConfig.jinjaTemplate", "the base model's own chat template is used")
    if training.base_model and training.warm_start_from:
        raise InvalidArgument(
            "Give exactly one of trainingConfig.baseModel and trainingConfig.warmStartFrom, not both."
        )
    if not training.base_model and not training.warm_start_from:
        raise InvalidArgument(
            "Give one of trainingConfig.baseModel (--base-model) and trainingConfig.warmStartFrom (--warm-start-from)."
        )


def _check_wandb(body: RftJobInput) -> None:
    wandb = body.wandb_config
    if wandb.api_key:
        raise InvalidArgument(
            f"wandbConfig.apiKey is not kept in a job. Store the key as the account's secret {WANDB_SECRET} once, and leave it out."
        )
    if not wandb.enabled and (wandb.project or wandb.entity or wandb.run_id):
        raise InvalidArgument("wandbConfig: project, entity and runId take effect with enabled: true only.")
    if wandb.enabled and find_spec("wandb") is None:
        raise InvalidArgument(
            'wandbConfig.enabled: Weights & Biases needs its package on the platform\'s machine: pip install "tunesmith[trackers]". '
            "TensorBoard files of every job, and MLflow, need none."
        )


def _check_support(parameters: InferenceParameters) -> None:
    """Rollouts sample from the whole distribution, or the recorded log-probabilities would not be those of the policy."""
    full = "rollouts of an RFT job sample from the whole distribution, so that recorded log-probabilities are exact"
    if parameters.top_p not in (None, 1.0):
        raise InvalidArgument(f"inferenceParameters.topP {parameters.top_p:g} is refused: {full}. Leave it out.")
    if parameters.top_k not in (None, 0):
        raise InvalidArgument(f"inferenceParameters.topK {parameters.top_k} is refused: {full}. Leave it out.")


def _refuse(value: Any, name: str, reason: str) -> None:
    if value:
        raise InvalidArgument(f"{name} cannot take effect here: {reason}. Leave it out.")
