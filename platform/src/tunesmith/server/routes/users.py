"""Users and service accounts: who holds keys of the account, and with which role."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db import users as table
from tunesmith.db.tables import User as UserRow
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.users import User, UserCreate, UserUpdate
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/users", tags=["users"])


@router.post("")
def create(
    account: AccountId, body: UserCreate, session: Writer, user_id: Annotated[str | None, Query(alias="userId")] = None
) -> dict[str, Any]:
    """Make a user, or a service account. Its id is taken from the e-mail address where none is given."""
    identity = user_id or _id_from(body.email)
    if not identity:
        raise InvalidArgument("userId is missing: give it, or an email to take it from.")
    name = resource_name(account, "users", identity)
    check_id(short_id(name), "userId")
    _check_preset(body.permission_preset, body.service_account)
    email = body.email or (f"{short_id(name)}@{account}.sa.tunesmith.local" if body.service_account else "")
    return _wire(
        table.create_user(
            session,
            account_name(account),
            name,
            role=body.role.value,
            display_name=body.display_name,
            email=email,
            service_account=body.service_account,
            permission_preset=body.permission_preset and body.permission_preset.value,
        )
    )


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of users, by name."""
    rows, token = table.list_users(session, account_name(account), listing)
    return {"users": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{user_id}")
def get(account: AccountId, user_id: str, session: Reader) -> dict[str, Any]:
    """One user."""
    return _wire(table.get_user(session, resource_name(account, "users", user_id)))


@router.patch("/{user_id}")
def update(account: AccountId, user_id: str, body: UserUpdate, session: Writer) -> dict[str, Any]:
    """Change role, names or preset; `permissionPreset: null` takes the preset away. Its keys follow at once."""
    name = resource_name(account, "users", user_id)
    user = table.get_user(session, name)
    sent = body.model_fields_set
    if body.service_account is not None and body.service_account != user.service_account:
        raise InvalidArgument(f"serviceAccount of {name} cannot be changed. Create another user.")
    values = {field: getattr(body, field) for field in ("role", "display_name", "email") if getattr(body, field)}
    if "display_name" in sent and body.display_name is not None:
        values["display_name"] = body.display_name
    if "permission_preset" in sent:
        _check_preset(body.permission_preset, user.service_account)
        values["permission_preset"] = body.permission_preset
    return _wire(table.update_user(session, name, {field: _plain(value) for field, value in values.items()}))


@router.delete("/{user_id}")
def delete(account: AccountId, user_id: str, session: Writer) -> dict[str, Any]:
    """Remove a user and end its keys; what it made stays."""
    table.delete_user(session, resource_name(account, "users", user_id))
    return {}


def _plain(value: Any) -> Any:
    return str(value) if value is not None else None


def _id_from(email: str | None) -> str:
    """`Ada.Lovelace@example.org` -> `ada-lovelace`."""
    return re.sub(r"[^a-z0-9]+", "-", (email or "").partition("@")[0].lower()).strip("-")[:63]


def _check_preset(preset: str | None, service_account: bool) -> None:
    if preset is not None and not service_account:
        raise InvalidArgument(
            f"permissionPreset {preset}: only service accounts take one. Set serviceAccount to true, or choose a role."
        )


def _wire(row: UserRow) -> dict[str, Any]:
    return User.model_validate(
        {
            "name": row.name,
            "role": row.role,
            "displayName": row.display_name,
            "email": row.email,
            "serviceAccount": row.service_account,
            "permissionPreset": row.permission_preset,
            "createTime": row.created,
            "updateTime": row.updated,
        }
    ).dump()
