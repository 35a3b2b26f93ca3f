"""Users and service accounts on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from tunesmith.schemas.wire import Status, Time, Wire


class Role(StrEnum):
    """What the keys of a user may do; `server/permissions.py` has the table."""

    ADMIN = "admin"
    """Everything, users and keys included."""
    USER = "user"
    """Everything but users and keys."""
    CONTRIBUTOR = "contributor"
    """Reads everything, makes datasets, evaluators, jobs, deployments and sessions; deletes nothing, changes no deployment, sets no secrets."""
    INFERENCE_USER = "inference-user"
    """Model calls only."""
    VIEWER = "viewer"
    """Looks and changes nothing. Of whoever opens the dashboard on the platform's machine without a key; no user can have it."""


class PermissionPreset(StrEnum):
    """A list of calls that bounds what the keys of a service account may do, whatever its role."""

    PILOT = "pilot"
    """What the Agent needs; no delete or cancel of anything."""


DisplayName = Annotated[str, StringConstraints(max_length=63)]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]


def _not_viewer(role: Role) -> Role:
    if role is Role.VIEWER:
        raise ValueError("the role viewer is the platform's own; choose admin, user, contributor or inference-user")
    return role


GivenRole = Annotated[Role, AfterValidator(_not_viewer)]
"""A role that a user can have."""


class UserCreate(Wire):
    """Body of a create."""

    role: GivenRole = Role.USER
    display_name: DisplayName = ""
    email: Email | None = None
    service_account: bool = False
    permission_preset: PermissionPreset | None = None


class UserUpdate(Wire):
    """Body of an update; what is absent stays. Whether somebody is a service account never changes."""

    role: GivenRole | None = None
    display_name: DisplayName | None = None
    email: Email | None = None
    service_account: bool | None = None
    permission_preset: PermissionPreset | None = None


class User(Wire):
    """A user as the API shows it."""

    name: str
    role: Role
    display_name: str = ""
    email: str = ""
    service_account: bool = False
    permission_preset: PermissionPreset | None = None
    state: str = "READY"
    status: Status = Field(default_factory=Status)
    create_time: Time
    update_time: Time
