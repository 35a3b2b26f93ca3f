"""What SFT and DPO jobs have in common on the wire. Every field that clients can send is known, so that each can be refused by name."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tunesmith.schemas.wire import JobInput, Wire


class Decay(JobInput):
    """How a learning rate falls after its warm-up."""

    min_lr_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Floor, as a share of the learning rate."""
    decay_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the run over which it falls; 0: all of it."""


class Constant(JobInput):
    """No fall."""


class LrScheduler(JobInput):
    """`lrScheduler`: exactly one of its fields."""

    constant: Constant | None = None
    linear: Decay | None = None
    cosine: Decay | None = None


class TuningFields(JobInput):
    """The training options: at the top of an SFT job, in `trainingConfig` of a DPO job."""

    base_model: str | None = None
    warm_start_from: str | None = None
    output_model: str | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    learning_rate_warmup_steps: int | None = None
    lr_scheduler: LrScheduler | None = None
    lora_rank: int | None = None
    """0: full parameters."""
    max_context_length: int | None = None
    optimizer_weight_decay: float | None = None
    batch_size_samples: int | None = None
    batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    sampler_checkpoint_save_interval_steps: int | None = None
    jinja_template: str | None = None
    region: str | None = None


class TuningJobInput(JobInput):
    """The options beside the training ones that both kinds of jobs have at their top."""

    dataset: str
    display_name: str | None = Field(default=None, max_length=128)
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool | None = None
    thinking_trace_history_mode: str | None = None
    renderer_hugging_face_repo_id: str | None = None
    reservation_target: str | None = None
    use_reservation: bool | None = None
    purpose: str | None = None
    use_purpose: str | None = None
    extra_values: Any = None
    wandb_config: dict[str, Any] | None = None
    aws_s3_config: dict[str, Any] | None = Field(default=None, alias="awsS3Config")
    azure_blob_storage_config: dict[str, Any] | None = None


class Money(Wire):
    """An amount: whole units, and billionths of one."""

    currency_code: str
    units: str
    nanos: int
