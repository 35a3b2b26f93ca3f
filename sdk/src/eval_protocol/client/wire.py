"""The nouns of the control plane as this client reads them. camelCase on the wire, snake_case here.

Only fields that somebody reads are named; the rest is kept (`model_extra`), because servers may add their own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Noun(BaseModel):
    """Base of everything that the platform answers."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)


class Status(Noun):
    """Detail of a resource's last operation; `code` is a gRPC code name."""

    code: str = ""
    message: str = ""


class Secret(Noun):
    """A named secret. The platform never answers its value."""

    name: str = ""
    key_name: str = ""


class Dataset(Noun):
    """Rows on the platform."""

    name: str = ""
    state: str = ""


class EvaluatorState(StrEnum):
    """Life of an uploaded evaluator."""

    ACTIVE = "ACTIVE"
    BUILDING = "BUILDING"
    BUILD_FAILED = "BUILD_FAILED"


class Evaluator(Noun):
    """An uploaded evaluator project."""

    name: str = ""
    state: str = "STATE_UNSPECIFIED"
    status: Status | None = None
    entry_point: str = ""
    commit_hash: str = ""
    """What the uploader said about the source; this client puts the content hash of the archive here."""
    version: int | None = None
    """Grows with every upload; None where the platform does not say."""

    def pinned(self, name: str) -> str:
        """The evaluator's full name with its version, if that is known: a job of it is refused once another version was uploaded."""
        return name if self.version is None else f"{name}/versions/{self.version}"


FINAL_STATES = frozenset(
    f"JOB_STATE_{state}" for state in ("COMPLETED", "EARLY_STOPPED", "FAILED", "CANCELLED", "EXPIRED", "DELETING")
)
GOOD_STATES = frozenset({"JOB_STATE_COMPLETED", "JOB_STATE_EARLY_STOPPED"})


class JobProgress(Noun):
    """The wire's progress of a job."""

    percent: int = 0
    epoch: int = 0


class RunProgress(BaseModel):
    """What the run directory of a job says, as the platform passes it on (snake_case on the wire)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    step: int = 0
    total_steps: int = 0
    mean_score: float | None = None
    best_score: float | None = None
    best_version: int | None = None
    version: int | None = None
    optimizer_steps: int = 0


class TrainingConfig(Noun):
    """The part of a job's training configuration that is shown."""

    base_model: str | None = None
    warm_start_from: str | None = None
    output_model: str | None = None


class Job(Noun):
    """A reinforcement fine-tuning job."""

    name: str = ""
    state: str = "JOB_STATE_UNSPECIFIED"
    status: Status | None = None
    job_progress: JobProgress | None = None
    run: RunProgress | None = None
    training_config: TrainingConfig | None = None
    notes: list[Any] = []
    """Options that were accepted without effect, with the reason."""

    @property
    def id(self) -> str:
        """Last segment of the name."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def is_final(self) -> bool:
        """Nothing will change any more."""
        return self.state in FINAL_STATES

    @property
    def is_deleted(self) -> bool:
        """Somebody deletes it, or has."""
        return self.state == "JOB_STATE_DELETING"

    @property
    def is_good(self) -> bool:
        """It ended as it should: completed, or stopped early because there was nothing to learn from."""
        return self.state in GOOD_STATES


class RunEvent(BaseModel):
    """One line of a run's `events.jsonl`: a rolled-out chunk, an evaluation, a published version."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    chunk: int | None = None
    """Place of a chunk in the run, from 0. `RunProgress.total_steps` counts chunks."""
    step: int = 0
    """Optimizer steps before it: a chunk that nothing can be learned from takes none."""
    epoch: int = 0
    mean_score: float | None = None
    kept_groups: int = 0
    dropped_groups: int = 0
    """Groups that nothing can be learned from: all scores equal, or fewer than two valid."""
    invalid: int = 0
    score: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    version: int | None = None

    @property
    def number(self) -> int:
        """How many chunks are done with this one."""
        return self.step if self.chunk is None else self.chunk + 1

    @property
    def groups(self) -> int:
        """Groups (rows) of the chunk, whether or not anything can be learned from them."""
        return self.kept_groups + self.dropped_groups


class JobMetrics(BaseModel):
    """Answer of `GET …/{job}/metrics`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    events: list[RunEvent] = Field(default_factory=list)
    metrics: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def chunks(self) -> list[RunEvent]:
        """Rolled-out chunks, oldest first."""
        return [event for event in self.events if event.kind == "chunk"]

    @property
    def evaluations(self) -> list[RunEvent]:
        """Held-out evaluations, oldest first."""
        return [event for event in self.events if event.kind == "evaluation" and event.score is not None]
