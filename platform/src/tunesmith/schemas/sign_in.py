"""Signing a browser in, on the wire."""

from __future__ import annotations

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


class SignInLink(Wire):
    """A link that signs one browser in."""

    url: str
    expires: Time
