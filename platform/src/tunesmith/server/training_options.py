"""Defaults and ranges of a base model's training options, by their names in a create: what a form needs to ask well."""

from __future__ import annotations

import math

from tunesmith.catalog import Bounds, TrainingDefaults
from tunesmith.schemas.models import OptionRange, TrainingOptions


def training_options(training: TrainingDefaults) -> TrainingOptions:
    """The options of RFT, SFT and DPO jobs on a base model that starts with `training`."""
    tuning = training.tuning

    def tuned(method: str, batch: int) -> dict[str, OptionRange]:
        return {
            "learningRate": _range(tuning.learning_rate(method, tuning.lora_rank), tuning.learning_rate_bounds),
            "loraRank": _range(tuning.lora_rank, tuning.lora_rank_bounds),
            "epochs": _range(tuning.epochs, tuning.epochs_bounds),
            "batchSizeSamples": _range(batch, tuning.batch_bounds),
            "optimizerWeightDecay": _range(tuning.weight_decay, Bounds(low=0)),
            "learningRateWarmupSteps": _range(0, Bounds(low=0)),
        }

    return TrainingOptions(
        rft={
            "learningRate": _range(training.learning_rate, training.learning_rate_bounds),
            "loraRank": _range(training.lora_rank, training.lora_rank_bounds),
            "epochs": _range(training.epochs, training.epochs_bounds),
            "chunkSize": _range(training.chunk_size, training.chunk_size_bounds),
            "responseCandidatesCount": _range(training.n, training.n_bounds),
            "temperature": _range(training.temperature, training.temperature_bounds),
            "maxOutputTokens": _range(training.max_tokens, training.max_tokens_bounds),
        },
        sft=tuned("SFT", tuning.sft_batch),
        dpo=tuned("DPO", tuning.dpo_batch),
    )


def _range(default: float, bounds: Bounds) -> OptionRange:
    return OptionRange(
        default=default,
        low=bounds.low if math.isfinite(bounds.low) else None,
        high=bounds.high if math.isfinite(bounds.high) else None,
        choices=list(bounds.choices) or None,
    )
