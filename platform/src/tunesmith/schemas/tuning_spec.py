"""What an SFT or DPO job does, with every default filled in: `Job.spec` of a job of kind `sft` or `dpo`.

The control plane writes it once, when the job is created; the jobs worker reads it and turns it into `run.json`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class TuningSpec(BaseModel):
    """One SFT, DPO or ORPO job, resolved. Names are full resource names; None means "not set", never "default"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: str
    """Name of a `runs.tuning.TuningLoss`: SFT, DPO or ORPO."""
    base_model: str
    """Catalogue name, Hugging Face id, local folder, or a full model of the account."""
    warm_start_from: str | None = None
    """Model resource (PEFT adapter) to continue from; `base_model` is then its base."""
    dataset: str
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool = False
    example_count: int
    """Rows of `dataset` when the job was created."""
    output_model: str
    epochs: float
    batch_size_samples: int
    """Samples (SFT) or pairs of an optimizer step."""
    learning_rate: float
    schedule: str = "constant"
    """Name of a `runs.tuning.ScheduleKind`."""
    min_lr_ratio: float = 0.0
    decay_ratio: float = 0.0
    warmup_steps: int = 0
    lora_rank: int
    """0: full parameters."""
    lora_alpha: int = 32
    weight_decay: float = 0.01
    beta: float = 0.1
    orpo_lambda: float = 0.1
    max_context_length: int | None = None
    thinking_history: str = "default"
    """Name of a `runs.tuning.ThinkingHistory`."""
    request: dict[str, Any]
    """The body as the client sent it (camelCase): what the API echoes, and what makes a repeated create idempotent."""
