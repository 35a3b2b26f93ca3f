"""Secrets on the wire. The value goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from tunesmith.schemas.wire import Time, Wire

MAX_SECRET_CHARACTERS = 65_536

KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""Name of the environment variable under which an evaluator finds the secret."""
Value = Annotated[SecretStr, Field(max_length=MAX_SECRET_CHARACTERS)]


class SecretCreate(Wire):
    """Body of a create. `name` is a short id or a full resource name."""

    name: str
    key_name: KeyName
    value: Value


class SecretUpdate(Wire):
    """Body of an update; what is absent stays."""

    key_name: KeyName | None = None
    value: Value | None = None


class Secret(Wire):
    """A secret as the API shows it."""

    name: str
    key_name: str
    create_time: Time
    update_time: Time
