"""The typed plan of a session: what everything else produces, revises, prices and carries out.

A plan is written by hand (`tunesmith session create --plan plan.yaml`), read from English (`agent.reading`) or read by a
model; the one shown for approval is always this. A field that is None was not decided: the documented default, or a question.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tunesmith.schemas.wire import JobInput

GRID = ((8, 1.5e-4), (16, 1e-4), (32, 5e-5))
"""The documented grid: (LoRA rank, learning rate), for each base model."""
SUBSAMPLE = 1000
"""Rows of the sweep where the dataset has more."""
SEED = 42
"""Of the subsample and of the splits, as documented."""
PARALLEL = 6
"""Active training jobs at a time."""


class Method(StrEnum):
    """What kind of training a session runs."""

    SFT = "sft"
    CLASSIFICATION = "classification"
    """SFT on labels, with a benchmark of the base model, accuracy by label and a confusion table."""
    DPO = "dpo"
    ORPO = "orpo"


class EvaluationPath(StrEnum):
    """How candidates are compared."""

    VALIDATION_LOSS = "validation_loss"
    EVALUATOR = "evaluator"
    """An evaluator of the account, by resource name."""
    GENERATED = "generated"
    """An evaluator that the Agent writes from the data."""


class Candidate(JobInput):
    """One training run of the sweep."""

    base_model: str
    lora_rank: int
    """0: full parameters."""
    learning_rate: float
    beta: float | None = None
    """DPO's beta, or ORPO's lambda."""


class GridPoint(JobInput):
    """One setting, tried on each base model."""

    lora_rank: int
    learning_rate: float
    beta: float | None = None


class Grid(JobInput):
    """The settings to try. `points` as they are; else every rank with every learning rate (and beta) that is given."""

    points: list[GridPoint] = []
    lora_ranks: list[int] = []
    learning_rates: list[float] = []
    betas: list[float] = []

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return not (self.points or self.lora_ranks or self.learning_rates or self.betas)


class Evaluation(JobInput):
    """How candidates are compared, and with what."""

    path: EvaluationPath | None = None
    """None: validation loss, the documented default (accuracy for a classification)."""
    evaluator: str | None = None
    """Id or resource name, for path `evaluator`."""


class Approvals(JobInput):
    """At which gates the session waits for a person."""

    plan: bool = True
    promotion: bool = True


class Plan(JobInput):
    """A session's plan. Names may be ids until `names` resolved them; an unknown field is an error."""

    method: Method | None = None
    """None: SFT, or what the data shows (preference pairs: DPO)."""
    dataset: str | None = None
    evaluation_dataset: str | None = None
    """Takes the place of the carved-out rows that candidates are compared on."""
    base_models: list[str] = []
    grid: Grid = Grid()
    epochs: float | None = Field(default=None, gt=0)
    """None: min(5, ceil(2500 / rows))."""
    subsample: int | None = Field(default=None, ge=0)
    """Rows of the sweep; None: 1000 where there are more; 0: all."""
    parallel: int | None = Field(default=None, ge=1)
    """Active training jobs at a time; None: 6."""
    batch_size_samples: int | None = Field(default=None, ge=1)
    max_context_length: int | None = Field(default=None, ge=2)
    evaluation: Evaluation = Evaluation()
    final_run: bool | None = None
    """Train the winner on all data; None: yes (DPO: no, as documented)."""
    deploy: bool | None = None
    """None: yes."""
    strong_model: str | None = None
    weak_model: str | None = None
    """Preference pairs from prompts: answers of the first are preferred to answers of the second (delta learning)."""
    output_model: str | None = None
    deployment: str | None = None
    approvals: Approvals = Approvals()
    seed: int = SEED
