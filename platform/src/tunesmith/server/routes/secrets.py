"""Secrets: written, listed by name, never read back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunesmith.db import secrets as table
from tunesmith.db.tables import Secret as SecretRow
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.secrets import Secret, SecretCreate, SecretUpdate
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/secrets", tags=["secrets"])


@router.post("")
def create(account: AccountId, body: SecretCreate, session: Writer, control: Control) -> dict[str, Any]:
    """Store a secret, encrypted."""
    name = resource_name(account, "secrets", body.name)
    check_id(short_id(name), "name")
    value = body.value.get_secret_value()
    return _wire(table.create_secret(session, account_name(account), name, body.key_name, value, control.keys.master))


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of secrets, without values."""
    rows, token = table.list_secrets(session, account_name(account), listing)
    return {"secrets": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{secret_id}")
def get(account: AccountId, secret_id: str, session: Reader) -> dict[str, Any]:
    """One secret, without its value."""
    return _wire(table.get_secret(session, resource_name(account, "secrets", secret_id)))


@router.patch("/{secret_id}")
def update(account: AccountId, secret_id: str, body: SecretUpdate, session: Writer, control: Control) -> dict[str, Any]:
    """Change key name or value."""
    name = resource_name(account, "secrets", secret_id)
    value = body.value.get_secret_value() if body.value is not None else None
    return _wire(table.update_secret(session, name, body.key_name, value, control.keys.master))


@router.delete("/{secret_id}")
def delete(account: AccountId, secret_id: str, session: Writer) -> dict[str, Any]:
    """Remove a secret."""
    table.delete_secret(session, resource_name(account, "secrets", secret_id))
    return {}


def _wire(row: SecretRow) -> dict[str, Any]:
    return Secret.model_validate(
        {"name": row.name, "key_name": row.key_name, "create_time": row.created, "update_time": row.updated}
    ).dump()
