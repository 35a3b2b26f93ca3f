"""Providers on the wire: an upstream's base URL, the models that it answers for, and which secret holds its key."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from tunesmith.schemas.wire import Time, Wire

ModelPattern = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,256}$")]
"""A model's name, `*`, `?` and `[...]` standing for what they do in a shell: `gpt-*`."""


class ProviderCreate(Wire):
    """Body of a create. `name` and `secret` are short ids or full resource names. An unknown field is an error."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base_url: Annotated[str, Field(max_length=2048)]
    models: Annotated[list[ModelPattern], Field(min_length=1, max_length=100)]
    secret: str | None = None
    """The account's secret that holds the key; none for an upstream without keys."""

    @field_validator("models")
    @classmethod
    def _not_ours(cls, models: list[str]) -> list[str]:
        for pattern in models:
            if pattern.startswith("accounts/"):
                raise ValueError(f"{pattern}: names under accounts/ are served here and never passed on")
        return models


class Provider(Wire):
    """A provider as the API shows it; the key stays in its secret."""

    name: str
    base_url: str
    models: list[str]
    secret: str | None
    create_time: Time
