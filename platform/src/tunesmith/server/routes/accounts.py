"""Accounts: whose key this is, and what that account is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from tunesmith.db.accounts import get_account
from tunesmith.db.tables import Account as AccountRow
from tunesmith.errors import NotFound
from tunesmith.schemas.accounts import Account
from tunesmith.schemas.names import account_name
from tunesmith.server.auth import AccountId, Caller
from tunesmith.server.control import Listing, Reader

router = APIRouter(tags=["accounts"])


@router.get("/verifyApiKey")
def verify_api_key(caller: Caller, response: Response) -> dict[str, str]:
    """200 with the account of the key in the header `x-fireworks-account-id`."""
    response.headers["x-fireworks-account-id"] = caller
    return {"account": account_name(caller), "accountId": caller}


@router.get("/v1/accounts")
def list_accounts(caller: Caller, session: Reader, listing: Listing) -> dict[str, Any]:
    """The caller's account; a key never sees another one."""
    del listing  # one row: nothing to page, and it is ordered by name
    return {"accounts": [_wire(_find(session, caller))], "nextPageToken": "", "totalSize": 1}


@router.get("/v1/accounts/{account_id}")
def get(account: AccountId, session: Reader) -> dict[str, Any]:
    """The caller's account."""
    return _wire(_find(session, account))


def _find(session: Reader, account: str) -> AccountRow:
    row = get_account(session, account_name(account))
    if row is None:
        raise NotFound(f"There is no account {account_name(account)}.")
    return row


def _wire(row: AccountRow) -> dict[str, Any]:
    account = Account(name=row.name, display_name=row.display_name, create_time=row.created, update_time=row.created)  # pyright: ignore[reportArgumentType]
    return account.dump()
