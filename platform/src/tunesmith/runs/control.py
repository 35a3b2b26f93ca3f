"""Control of a running RFT job: what a person asks for, what the handler hands on, and what is in force.

| what | who writes it | where |
|---|---|---|
| `Asked` | the control plane | `Job.control` |
| `Control` | the handler | `control.json` in the run directory, renamed into place |
| `InForce` | the orchestrator | an event of kind `control` whenever it changes, and `control` in status.json |

A request counts from the next chunk on. What a chunk was rolled out with stands in its event and in its batch, so a restart,
or a learner that reads the batches again, comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.runs.config import RunConfig, Strict

CONTROL_FILE = "control.json"


class Asked(BaseModel):
    """What a person asked for, all requests taken together."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    revision: int = 0
    """Counts requests."""
    paused: bool = False
    steps: int | None = None
    """Go on for so many chunks, then pause."""
    steps_revision: int = 0
    """The revision in which `steps` was asked for: asking for something else later does not start the count anew."""
    learning_rate: float | None = None
    """None: the job's own."""
    evaluator_version: int | None = None
    """None: the version that the job was created with, unless `auto_evaluator_version`."""
    auto_evaluator_version: bool = False
    """Every new ACTIVE version of the job's evaluator is taken at once."""


class Control(Strict):
    """`control.json`. Without one, a run goes by its run.json."""

    revision: int = 0
    paused: bool = False
    steps: int | None = Field(default=None, ge=1)
    steps_revision: int = 0
    learning_rate: float | None = Field(default=None, ge=0)
    """None = that of run.json."""
    evaluator_version: str = ""
    """Empty = that of run.json."""
    hosts: dict[str, Path] = {}
    """Socket of the evaluator host of each version that one runs for, besides run.json's."""
    message: str = ""
    """What was asked for and could not be done, and why; empty: nothing."""

    @classmethod
    def read(cls, run_dir: Path) -> Control:
        """Read `control.json`; what a run without one goes by when there is none."""
        try:
            return cls.model_validate_json((run_dir / CONTROL_FILE).read_text())
        except FileNotFoundError:
            return cls()


class InForce(BaseModel):
    """What chunks are rolled out and scored with."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: int = 0
    """The optimizer step from which on it counts."""
    paused: bool = False
    pause_at: int | None = None
    """Chunk before which the run pauses by itself."""
    learning_rate: float
    evaluator_version: str = ""
    revision: int = 0
    steps_revision: int = 0
    message: str = ""

    def take(self, control: Control, config: RunConfig, *, chunk: int, step: int) -> InForce:
        """What is in force before chunk `chunk`, which would become step `step`; this very object when nothing changed."""
        pause_at = self.pause_at
        if control.steps is None:
            pause_at = None
        elif control.steps_revision != self.steps_revision:
            pause_at = chunk + control.steps
        rate = control.learning_rate
        new = self.model_copy(
            update={
                "paused": control.paused or (pause_at is not None and chunk >= pause_at),
                "pause_at": pause_at,
                "learning_rate": config.learner.learning_rate if rate is None else rate,
                "evaluator_version": control.evaluator_version or config.evaluator_version,
                "revision": control.revision,
                "steps_revision": control.steps_revision,
                "message": control.message,
            }
        )
        return self if new == self else new.model_copy(update={"step": step})

    def event(self) -> dict[str, Any]:
        """Fields of its event."""
        return {**self.model_dump(), "evaluator_version": version_number(self.evaluator_version)}

    @classmethod
    def of(cls, config: RunConfig, events: Iterable[dict[str, Any]]) -> InForce:
        """As the newest control event says; without one, as run.json does."""
        found = cls(learning_rate=config.learner.learning_rate, evaluator_version=config.evaluator_version)
        for event in events:
            if event["kind"] == "control":
                version = event["evaluator_version"]
                found = cls.model_validate({**event, "evaluator_version": "" if version is None else str(version)})
        return found


def version_number(version: str) -> int | str | None:
    """A version of an evaluator as events show it: a number where it is one, null where a run by hand names none."""
    return int(version) if version.isdecimal() else version or None
