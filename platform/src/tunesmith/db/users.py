"""Users and service accounts of an account, and what their keys may do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import ApiKey, User
from tunesmith.errors import AlreadyExists, NotFound
from tunesmith.schemas.users import Role

FIELDS = Fields(
    key=User.name,
    order={"name": User.name, "create_time": User.created, "update_time": User.updated},
    filters={
        "name": User.name,
        "role": User.role,
        "email": User.email,
        "permission_preset": User.permission_preset,
    },
    default_order="name",
)


@dataclass(frozen=True)
class Rights:
    """On what a key's permissions depend."""

    role: Role
    preset: str | None = None
    """Bounds the role's permissions further."""


def create_user(
    session: Session,
    account: str,
    name: str,
    *,
    role: str,
    display_name: str,
    email: str,
    service_account: bool,
    permission_preset: str | None,
) -> User:
    """Store a user of `account` under its resource name; the same create again is fine. Raises AlreadyExists."""
    values: dict[str, Any] = {
        "role": role,
        "display_name": display_name,
        "email": email,
        "service_account": service_account,
        "permission_preset": permission_preset,
    }
    existing = session.get(User, name)
    if existing is not None:
        if all(getattr(existing, field) == value for field, value in values.items()):
            return existing
        raise AlreadyExists(
            f"The user {name} exists already, with other values. Change it with PATCH, or choose another id."
        )
    user = User(name=name, account=account, **values)
    session.add(user)
    session.flush()
    return user


def get_user(session: Session, name: str) -> User:
    """The user of that resource name. Raises NotFound."""
    user = session.get(User, name)
    if user is None:
        raise NotFound(f"There is no user {name}.")
    return user


def update_user(session: Session, name: str, values: dict[str, Any]) -> User:
    """Change fields of a user, by column. Raises NotFound."""
    user = get_user(session, name)
    for field, value in values.items():
        setattr(user, field, value)
    user.updated = time.time()
    session.flush()
    return user


def delete_user(session: Session, name: str) -> None:
    """Remove a user and end all its keys. Raises NotFound."""
    user = get_user(session, name)
    session.execute(delete(ApiKey).where(ApiKey.user == name))
    session.delete(user)


def list_users(session: Session, account: str, query: ListQuery) -> tuple[list[User], str]:
    """One page of an account's users and the token of the next."""
    return page(session, User, [User.account == account], FIELDS, query)


def rights_of(session: Session, key: ApiKey) -> Rights | None:
    """Role and preset of an account key: an admin's where it belongs to no user and its scope names no role. None when its user is gone.

    A preset in the key's own scope (a session's key) and one of its user bound it alike; the key's own is named first.
    """
    preset = key.scope.get("preset")
    if key.user is None:
        return Rights(Role(key.scope.get("role", Role.ADMIN)), preset)
    user = session.get(User, key.user)
    return None if user is None else Rights(Role(user.role), preset or user.permission_preset)
