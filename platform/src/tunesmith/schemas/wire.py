"""What all resources share on the wire: camelCase, int64 as strings, RFC 3339 times, `status` objects.

Fields are snake_case here and camelCase outside; a request may use either. What a resource does not know is ignored, except in
job bodies (`JobInput`), where an option that would be silently lost is an error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


class Wire(BaseModel):
    """Base of everything that crosses the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", allow_inf_nan=False)

    def dump(self) -> dict[str, Any]:
        """The JSON object for an answer: camelCase, fields without a value left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def given(self) -> dict[str, Any]:
        """What the client sent, camelCase, without the fields it left out or sent as null."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class JobInput(Wire):
    """Base of a job's options: an unknown one is an error."""

    model_config = ConfigDict(extra="forbid")


Int64 = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""An int64: a string in JSON, both ways (a plain number is accepted too)."""


def _from_seconds(value: Any) -> Any:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else value


def _to_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, BeforeValidator(_from_seconds), PlainSerializer(_to_text, return_type=str, when_used="json")]
"""A moment: Unix seconds in the database, RFC 3339 with `Z` on the wire."""


class Status(Wire):
    """Detail of the last operation on a resource: a gRPC code's name and what happened."""

    code: str = "OK"
    message: str = ""


class QueuePlace(Wire):
    """`queue`: where a job stands that no worker has taken yet."""

    position: int
    """From 1: the next to be taken."""
    waiting_for: str
    """What has to happen first."""


class SignedUrls(Wire):
    """File name -> absolute URL that carries its own permission."""

    filename_to_signed_urls: dict[str, str]


class UploadRequest(Wire):
    """The files that a client is about to upload, with their sizes in bytes."""

    filename_to_size: dict[str, Int64]
    read_mask: str | None = None
