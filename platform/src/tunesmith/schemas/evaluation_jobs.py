"""Evaluation jobs on the wire: the record that a local evaluation leaves here together with the dataset of its results."""

from __future__ import annotations

from tunesmith.schemas.wire import Status, Time, Wire


class EvaluationJobInput(Wire):
    """The fields that a client sets. The references are recorded, not followed (published clients send `…/dummy`)."""

    evaluator: str
    input_dataset: str
    output_dataset: str
    display_name: str | None = None
    output_stats: str | None = None


class EvaluationJobCreate(Wire):
    """Body of a create."""

    evaluation_job: EvaluationJobInput
    evaluation_job_id: str | None = None


class EvaluationJob(EvaluationJobInput):
    """An evaluation job as the API shows it."""

    name: str
    state: str
    status: Status
    create_time: Time
    update_time: Time
