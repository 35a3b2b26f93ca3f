"""Signing a browser in, on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from tunesmith.schemas.users import Role
from tunesmith.schemas.wire import JobInput, Time, Wire


class BrowserSignIn(JobInput):
    """Body of a sign-in: a key, a link's token, or neither."""

    api_key: SecretStr | None = Field(default=None, max_length=512)
    link: SecretStr | None = Field(default=None, max_length=512)


class BrowserSession(Wire):
    """Who is signed in."""

    account: str
    """Short id."""
    role: Role
    user: str | None = None
    """Resource name; absent for the account's own key and for whoever looks without one."""
    expires: Time | None = None
    """Absent where a key was sent that never expires."""
    version: str
    """Of the platform."""


class NoSession(Wire):
    """Nobody is signed in, as whoever asks whether somebody is gets to know."""

    account: None = None
    """Sent as null, unlike other fields without a value: it tells this answer from a session."""
    may_look: bool
    """Whether a sign-in with nothing would do, which only looks."""

    def dump(self) -> dict[str, Any]:
        """The JSON object for an answer, with its null."""
        return self.model_dump(mode="json", by_alias=True)


class SignInLink(Wire):
    """A link that signs one browser in."""

    url: str
    expires: Time
