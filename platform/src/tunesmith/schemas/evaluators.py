"""Evaluators on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunesmith.schemas.wire import Status, Time, Wire


class EvaluatorState(StrEnum):
    """Where an evaluator's newest version stands."""

    BUILDING = "BUILDING"
    """Its source is awaited, or its environment is being prepared."""
    ACTIVE = "ACTIVE"
    """A job may use it."""
    BUILD_FAILED = "BUILD_FAILED"
    """`status` says why; the build log has the whole story."""


class EvaluatorInput(Wire):
    """The fields that a client may set."""

    display_name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=4000)] | None = None
    entry_point: Annotated[str, Field(max_length=1024)] | None = None
    """`path/to/file.py::function`, relative to the uploaded folder."""
    commit_hash: Annotated[str, Field(max_length=256)] | None = None
    default_dataset: str | None = None
    source: dict[str, Any] | None = None
    requirements: str | None = None
    criteria: list[dict[str, Any]] | None = None


class EvaluatorCreate(Wire):
    """Body of a create."""

    evaluator: EvaluatorInput
    evaluator_id: str


class Evaluator(EvaluatorInput):
    """An evaluator as the API shows it."""

    name: str
    state: EvaluatorState
    status: Status
    version: int
    """Of the source: one more with every upload."""
    created_by: str = ""
    create_time: Time
    update_time: Time
