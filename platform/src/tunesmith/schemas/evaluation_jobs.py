"""Evaluation jobs on the wire: one that is run here (`scoring`), or the record that a local evaluation leaves with its results."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.schemas.wire import JobInput, QueuePlace, Status, Time, Wire


class Scoring(JobInput):
    """Asks for the evaluation to be run here, and says how. An unknown field is an error."""

    model: str | None = None
    """Whose answers are scored: a base model, a model or a deployment of the account, or a model of one of its providers.
    None: the rows' own."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """None: 0."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer; None: what the model allows."""
    max_concurrent_rollouts: int | None = Field(default=None, ge=1, le=4096)


class EvaluationJobInput(Wire):
    """The fields that a client sets. Without `scoring` the references are recorded, not followed (published clients send `…/dummy`)."""

    evaluator: str
    input_dataset: str
    output_dataset: str
    display_name: str | None = None
    output_stats: str | None = None
    scoring: Scoring | None = None


class EvaluationJobCreate(Wire):
    """Body of a create."""

    evaluation_job: EvaluationJobInput
    evaluation_job_id: str | None = None


class EvaluationSpec(BaseModel):
    """An evaluation that is run here, resolved. Names are full resource names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    """The rows that are evaluated."""
    output_dataset: str
    example_count: int
    """Rows of `dataset` when the job was created."""
    evaluator: str
    evaluator_version: int
    """The version that was ACTIVE when the job was created; a later build does not change a job."""
    entry_point: str
    evaluator_dir: str
    """Folder with src/ and venv/ of that version."""
    model: str | None
    """As the gateway is asked for it; None: rows are scored as they are."""
    base_model: str | None
    """What `model` is, or stands on; None where it is served elsewhere."""
    context_length: int | None
    """Of that base, in tokens."""
    temperature: float
    max_tokens: int | None
    max_concurrent_rollouts: int
    request: dict[str, Any]
    """The body as the client sent it (camelCase)."""


class EvaluationJob(EvaluationJobInput):
    """An evaluation job as the API shows it."""

    name: str
    state: str
    status: Status
    queue: QueuePlace | None = None
    """Of a PENDING job."""
    created_by: str = ""
    """Resource name of the user; empty: whoever has the account's own key."""
    create_time: Time
    update_time: Time
    completed_time: Time | None = None
    job_progress: dict[str, Any] | None = None
    """Of one that is run here: `percent`, `scored` and `rows`."""
    metrics: dict[str, Any] | None = None
    """Of one that ended here: `score` (mean over valid rows), `standard_error`, `rows`, `invalid`, `input_tokens`,
    `output_tokens`, `seconds`."""
    sandbox: dict[str, Any] | None = None
    """Of one that is run here, what confines its evaluator: {"kind": "bubblewrap" | "landlock" | "none", "degraded", "reason"}; None until
    its host has started."""
    notes: list[Any] = []
    """What is to be known of it: that its evaluator is not fully confined."""
