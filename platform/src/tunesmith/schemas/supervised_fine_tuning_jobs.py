"""SFT jobs on the wire: the options flat, or wrapped in `supervisedFineTuningJob`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tunesmith.schemas.reinforcement_fine_tuning_jobs import JobProgress
from tunesmith.schemas.tuning_fields import Money, TuningFields, TuningJobInput
from tunesmith.schemas.wire import QueuePlace, Status, Time, Wire


class SftJobInput(TuningFields, TuningJobInput):
    """Body of a create."""

    job_id: str | None = Field(default=None, alias="supervisedFineTuningJobId", exclude=True)
    """The id may also come as a query parameter."""
    early_stop: bool | None = None
    is_turbo: bool | None = None
    nodes: int | None = None
    mtp_enabled: bool | None = None
    mtp_num_draft_tokens: int | None = None
    mtp_freeze_base_model: bool | None = None
    metrics_file_signed_url: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, body: Any) -> Any:
        return unwrapped(body, "supervisedFineTuningJob")


def unwrapped(body: Any, field: str) -> Any:
    """`{"job": {...}, "jobId": ...}` as one object; a flat body as it is."""
    if isinstance(body, dict) and isinstance(body.get(field), dict):
        return {**body[field], **{name: value for name, value in body.items() if name != field}}
    return body


class SftJob(Wire):
    """An SFT job as the API shows it: the values in force, defaults included."""

    name: str
    display_name: str | None = None
    state: str
    status: Status
    queue: QueuePlace | None = None
    """Of a PENDING job."""
    create_time: Time
    update_time: Time
    completed_time: Time | None = None
    created_by: str = ""
    """Resource name of the user; empty: whoever has the account's own key."""
    dataset: str
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool = False
    base_model: str | None = None
    warm_start_from: str | None = None
    output_model: str
    epochs: float
    batch_size_samples: int
    learning_rate: float
    learning_rate_warmup_steps: int
    lr_scheduler: dict[str, Any]
    lora_rank: int
    optimizer_weight_decay: float
    max_context_length: int | None = None
    thinking_trace_history_mode: str
    job_progress: JobProgress
    estimated_cost: Money | None = None
    metrics_file_signed_url: str | None = None
    """JSONL, growing while the job runs; absent before the first line."""
    trainer_logs_signed_url: str | None = None
    render_samples_signed_url: str | None = None
    """The first samples as they are trained: token ids, decoded tokens, weights."""
    evaluation_rows_signed_urls: dict[str, str] = {}
    """By step: what each held-out row said, JSON."""
    run: dict[str, Any] | None = None
    """The run's latest figures: step, total_steps, loss, eval_loss, best_step, ..."""
    processes: list[dict[str, Any]] = []
    notes: list[Any] = []
    """Options that were accepted without effect, each with its reason."""
