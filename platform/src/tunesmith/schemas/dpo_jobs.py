"""DPO and ORPO jobs on the wire: the options flat, or wrapped in `dpoJob`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tunesmith.schemas.reinforcement_fine_tuning_jobs import JobProgress
from tunesmith.schemas.supervised_fine_tuning_jobs import unwrapped
from tunesmith.schemas.tuning_fields import Money, TuningFields, TuningJobInput
from tunesmith.schemas.wire import JobInput, QueuePlace, Status, Time, Wire


class DpoConfig(JobInput):
    """`lossConfig.dpo`."""

    beta: float | None = None
    """Above 0 and below 0.5."""
    ref_cache_concurrency: int | None = None
    ref_cache_batch_size: int | None = None


class PreferenceLossConfig(JobInput):
    """`lossConfig` of a DPO job."""

    method: str | None = None
    """DPO (default) or ORPO."""
    kl_beta: float | None = None
    dpo: DpoConfig | None = None
    orpo_lambda: float | None = None
    """Weight of the odds-ratio term, 0 to 1. Not in the published type."""


class DpoJobInput(TuningJobInput):
    """Body of a create."""

    job_id: str | None = Field(default=None, alias="dpoJobId", exclude=True)
    training_config: TuningFields = TuningFields()
    loss_config: PreferenceLossConfig = PreferenceLossConfig()

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, body: Any) -> Any:
        return unwrapped(body, "dpoJob")


class DpoJob(Wire):
    """A DPO job as the API shows it: the values in force, defaults included."""

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
    thinking_trace_history_mode: str
    training_config: dict[str, Any]
    loss_config: dict[str, Any]
    job_progress: JobProgress
    estimated_cost: Money | None = None
    metrics_file_signed_url: str | None = None
    trainer_logs_signed_url: str | None = None
    render_samples_signed_url: str | None = None
    evaluation_rows_signed_urls: dict[str, str] = {}
    run: dict[str, Any] | None = None
    processes: list[dict[str, Any]] = []
    notes: list[Any] = []
