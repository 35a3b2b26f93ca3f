"""Rows of a dataset on the wire, and figures over them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tunesmith.schemas.wire import Wire


class DatasetRow(Wire):
    """One row."""

    index: int
    """From 0, in the whole dataset."""
    row: dict[str, Any]


class DatasetRows(Wire):
    """A page of rows."""

    rows: list[DatasetRow]
    next_page_token: str
    total_size: int
    """Of what matches."""


class Spread(Wire):
    """Messages a row."""

    min: int
    mean: float
    max: int


class Quantiles(Wire):
    """Characters of text a row."""

    min: int
    p50: int = Field(alias="p50")
    p95: int = Field(alias="p95")
    max: int


class Bin(Wire):
    """Rows with so many characters."""

    from_: int = Field(alias="from")
    to: int
    rows: int


class DatasetStatistics(Wire):
    """Figures over all rows."""

    rows: int
    row_kind: str
    bytes: int
    messages: Spread
    characters: Quantiles
    histogram: list[Bin]
    roles: dict[str, int]
    """Messages by role."""
    with_tools: int
    """Rows that declare tools or call one."""
    with_system: int
    duplicates: int
    """Rows that are equal to an earlier one."""
    fields: dict[str, int]
    """Rows that have a field, by its path."""
