"""Body of `:clone`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tunesmith.schemas.wire import JobInput


class RftCloneInput(JobInput):
    """The same job with some of its fields changed."""

    changes: dict[str, Any] = {}
    """Fields of a create, nested as there; null takes one away, so that its default counts."""
    display_name: str | None = Field(default=None, max_length=128)
