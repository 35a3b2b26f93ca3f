"""Models on the wire: adapters and full models that jobs produced, and the base models of the catalogue."""

from __future__ import annotations

from tunesmith.schemas.wire import Int64, Status, Time, Wire


class PeftDetails(Wire):
    """What an adapter sits on."""

    base_model: str
    r: int
    target_modules: list[str]


class BaseModelDetails(Wire):
    """What a whole model is."""

    model_type: str = ""
    parameter_count: Int64 | None = None
    checkpoint_format: str = "HUGGINGFACE"


class OptionRange(Wire):
    """What one training option may be for a base model, and what it is when a job names nothing."""

    default: float
    low: float | None = None
    high: float | None = None
    """Both included; None: no bound."""
    choices: list[int] | None = None
    """Instead of bounds: the only values."""


class TrainingOptions(Wire):
    """Options of jobs on a base model, by their names in a create."""

    rft: dict[str, OptionRange]
    sft: dict[str, OptionRange]
    dpo: dict[str, OptionRange]


class Model(Wire):
    """A model as the API shows it."""

    name: str
    display_name: str = ""
    kind: str
    state: str
    status: Status = Status()
    base_model: str | None = None
    """Of an adapter: what it sits on. Of a full model: the catalogue's model that it was trained from."""
    peft_details: PeftDetails | None = None
    base_model_details: BaseModelDetails | None = None
    fine_tuning_job: str | None = None
    context_length: int | None = None
    tunable: bool | None = None
    rl_tunable: bool | None = None
    training_options: TrainingOptions | None = None
    """Of a base model of the catalogue."""
    sha256: str | None = None
    create_time: Time | None = None
