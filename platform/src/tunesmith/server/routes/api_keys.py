"""API keys of users: made, shown once, listed without the key, ended."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from tunesmith.db import api_keys as table
from tunesmith.db.tables import ApiKey as ApiKeyRow
from tunesmith.db.users import get_user
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.api_keys import ApiKey, ApiKeyCreate, ApiKeyDelete
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/users/{user_id}", tags=["apiKeys"])


@router.post("/apiKeys")
def create(account: AccountId, user_id: str, body: ApiKeyCreate, session: Writer, control: Control) -> dict[str, Any]:
    """Make a key. The answer is the only place where `key` is ever shown."""
    user = get_user(session, resource_name(account, "users", user_id))
    expires = _seconds(body.api_key.expire_time)
    if expires is not None and expires <= time.time():
        raise InvalidArgument(
            f"expireTime {body.api_key.expire_time} has passed already. Name a later moment, or none."
        )
    row, key = table.new_key(
        session,
        user.account,
        {"kind": "account"},
        body.api_key.display_name,
        expires,
        control.keys.pepper,
        user=user.name,
    )
    return _wire(row, user.email, key)


@router.get("/apiKeys")
def list_(account: AccountId, user_id: str, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of a user's keys, newest first; expired ones too."""
    user = get_user(session, resource_name(account, "users", user_id))
    rows, token = table.list_keys(session, user.name, listing)
    return {"apiKeys": [_wire(row, user.email) for row in rows], "nextPageToken": token}


@router.post("/apiKeys:delete")
def delete(account: AccountId, user_id: str, body: ApiKeyDelete, session: Writer) -> dict[str, Any]:
    """End a key. The gateway refuses it at most five seconds later, everything else at once."""
    user = get_user(session, resource_name(account, "users", user_id))
    table.delete_key(session, user.name, body.key_id)
    return {}


def _seconds(moment: datetime | None) -> float | None:
    """Unix seconds; a moment without a zone is UTC, as in all answers."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _wire(row: ApiKeyRow, email: str, key: str | None = None) -> dict[str, Any]:
    return ApiKey.model_validate(
        {
            "keyId": row.id,
            "displayName": row.display_name,
            "prefix": row.prefix,
            "email": email,
            "key": key,
            "createTime": row.created,
            "expireTime": row.expires,
        }
    ).dump()
