"""Control of a running RFT job on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tunesmith.schemas.wire import JobInput


class RftControlInput(JobInput):
    """Body of `:control`: any of these. null takes a wish back: the job's own learning rate, or evaluator version, counts again."""

    paused: bool | None = None
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Go on for so many steps, then pause."""
    learning_rate: float | None = None
    evaluator_version: int | None = None
    auto_evaluator_version: bool | None = None
    """Every new ACTIVE version of the job's evaluator is taken at once."""


class RftRewindInput(JobInput):
    """Body of `:rewind`."""

    version: int = Field(ge=0)
    display_name: str | None = Field(default=None, max_length=128)


class RftExtendInput(JobInput):
    """Body of `:extend`."""

    epochs: int = Field(ge=1, le=1000)
    """Passes over the dataset beyond those of the job."""
    display_name: str | None = Field(default=None, max_length=128)
    output_model: str | None = None
    """Name of the model; none: the new job's id."""


class RftPromoteInput(JobInput):
    """Body of `:promote`."""

    version: int = Field(ge=0)
    """The policy version, that is the number of optimizer steps it is made of."""
    model: str | None = None
    """Id of the model that it becomes; none: the job's output model, whose weights it replaces."""


_REQUESTED = ("revision", "paused", "steps", "learning_rate", "evaluator_version", "auto_evaluator_version")
_IN_FORCE = ("revision", "step", "paused", "learning_rate", "evaluator_version", "message")
_CAMEL = {
    "learning_rate": "learningRate",
    "evaluator_version": "evaluatorVersion",
    "auto_evaluator_version": "autoEvaluatorVersion",
}
_UNASKED = {"revision": 0, "paused": False, "auto_evaluator_version": False}


def control_wire(asked: dict[str, Any], run: dict[str, Any] | None) -> dict[str, Any]:
    """`control` of a job: what was asked for (`Job.control`), and what its run says is in force."""
    in_force = (run or {}).get("control")
    return {
        "requested": {_CAMEL.get(name, name): asked.get(name, _UNASKED.get(name)) for name in _REQUESTED},
        "inForce": {_CAMEL.get(name, name): in_force.get(name) for name in _IN_FORCE} if in_force else None,
    }
