"""Versions of an evaluator on the wire, their files, and what they scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tunesmith.schemas.evaluators import EvaluatorState
from tunesmith.schemas.wire import JobInput, Status, Time, Wire


class EvaluatorVersion(Wire):
    """One source of an evaluator."""

    name: str
    version: int
    origin: Literal["upload", "edit"]
    message: str
    """What its author said about the change."""
    state: EvaluatorState
    status: Status
    entry_point: str
    described: dict[str, Any]
    """What its host said of it: `name`, `mode`, `file`, `line`, `timeout`; empty until it is built."""
    create_time: Time
    update_time: Time
    current: bool
    """Whether new jobs take it."""
    build_log: str | None = None
    """Of one version that was asked for by its number."""


class EvaluatorVersions(Wire):
    """All versions of an evaluator, newest first."""

    evaluator_versions: list[EvaluatorVersion]


class EvaluatorEdit(JobInput):
    """Body of an edit."""

    base_version: int = Field(ge=1)
    """The version that the texts were made from: the newest."""
    files: dict[str, str | None]
    """Path -> new text, or null to remove the file. Others stay as they are."""
    message: Annotated[str, StringConstraints(max_length=2000)] = ""


class SourceFile(Wire):
    """One file of a version."""

    path: str
    size: int
    text: str | None = None
    """Of UTF-8 text up to 256 KiB."""


class Source(Wire):
    """The files of a version."""

    files: list[SourceFile]


class FileDiff(Wire):
    """One file that two versions have otherwise."""

    path: str
    status: Literal["added", "removed", "changed"]
    diff: str | None = None
    """Unified; null where a side is no text."""


class Diff(Wire):
    """What differs between two versions."""

    files: list[FileDiff]


class EvaluatorResult(Wire):
    """What an evaluator scored in one job."""

    kind: Literal["evaluation", "rft"]
    job: str
    evaluator_version: int
    model: str | None = None
    """Whose answers were scored; null for rows that came with theirs."""
    mean_score: float | None = None
    rollouts: int
    """Scored ones, valid or not."""
    invalid: int
    time: Time


class EvaluatorResults(Wire):
    """What an evaluator scored, newest first."""

    results: list[EvaluatorResult]
