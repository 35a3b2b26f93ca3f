"""API keys on the wire. The key itself is shown once, in the answer to its create."""

from __future__ import annotations

from tunesmith.schemas.users import DisplayName
from tunesmith.schemas.wire import Time, Wire


class ApiKeyInput(Wire):
    """What a client chooses of a key."""

    display_name: DisplayName = "default"
    expire_time: Time | None = None
    """Absent: the key never expires."""


class ApiKeyCreate(Wire):
    """Body of a create."""

    api_key: ApiKeyInput


class ApiKeyDelete(Wire):
    """Body of `apiKeys:delete`."""

    key_id: str


class ApiKey(Wire):
    """A key as the API shows it."""

    key_id: str
    display_name: str
    prefix: str
    email: str = ""
    secure: bool = True
    """The platform does not keep the plaintext."""
    key: str | None = None
    create_time: Time
    expire_time: Time | None = None
