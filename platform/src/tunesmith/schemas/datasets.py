"""Datasets on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunesmith.schemas.wire import Int64, Status, Time, Wire

DisplayName = Annotated[str, Field(max_length=128)]


class UploadState(StrEnum):
    """Whether the bytes of a dataset or model are there."""

    UPLOADING = "UPLOADING"
    """Announced; no valid bytes yet."""
    READY = "READY"


class DatasetFormat(StrEnum):
    """What one row is."""

    FORMAT_UNSPECIFIED = "FORMAT_UNSPECIFIED"
    CHAT = "CHAT"
    COMPLETION = "COMPLETION"
    RL = "RL"


class DatasetInput(Wire):
    """The fields that a client may set."""

    display_name: DisplayName | None = None
    example_count: Int64 | None = Field(default=None, ge=0)
    """What the client counted; corrected when the rows are here."""
    format: DatasetFormat | None = None
    eval_protocol: dict[str, Any] | None = None
    """Marker: the rows are EvaluationRows already, no dataset_adapter is applied."""
    user_uploaded: dict[str, Any] | None = None
    evaluation_result: dict[str, Any] | None = None
    splitted: dict[str, Any] | None = None
    transformed: dict[str, Any] | None = None
    source_job_name: str | None = None
    external_url: str | None = None


class DatasetCreate(Wire):
    """Body of a create."""

    dataset: DatasetInput = DatasetInput()
    dataset_id: str
    source_dataset_id: str | None = None


class Dataset(DatasetInput):
    """A dataset as the API shows it."""

    name: str
    state: UploadState
    status: Status
    bytes: Int64 | None = None
    row_kind: str | None = None
    """Of a READY dataset: MESSAGES (conversations) or PREFERENCES (pairs of answers)."""
    created_by: str = ""
    create_time: Time
    update_time: Time


class RenderPreviewInput(Wire):
    """What a render preview is asked for."""

    base_model: str
    context_length: int | None = None
    """Longer renderings are cut there, in tokens; None: the model's context."""
    page_size: int = Field(default=0, ge=0)
    """Rows; 0: 10, at most 50."""
    page_token: str = ""


class UploadedFile(Wire):
    """Answer to `:upload`, in the snake_case shape of file APIs."""

    id: str
    bytes: int
    created_at: int
    filename: str
    object: str = "file"
    purpose: str = "fine-tune"
