"""Providers: upstreams of the account that answer for models which are not served here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunesmith.db import providers as table
from tunesmith.db.secrets import get_secret
from tunesmith.db.tables import Provider as ProviderRow
from tunesmith.gateway.addresses import AddressGuard
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.schemas.providers import Provider, ProviderCreate
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/providers", tags=["providers"])


@router.post("")
def create(account: AccountId, body: ProviderCreate, session: Writer, control: Control) -> dict[str, Any]:
    """Store a provider. Its base URL must be one that this platform calls, and its secret must be there."""
    name = resource_name(account, "providers", body.name)
    check_id(short_id(name), "name")
    AddressGuard(control.settings.allowed_upstreams).check_url(body.base_url)
    secret = resource_name(account, "secrets", body.secret) if body.secret else None
    if secret is not None:
        get_secret(session, secret)
    return _wire(table.create_provider(session, account_name(account), name, body.base_url, body.models, secret))


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of providers."""
    rows, token = table.list_providers(session, account_name(account), listing)
    return {"providers": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{provider_id}")
def get(account: AccountId, provider_id: str, session: Reader) -> dict[str, Any]:
    """One provider."""
    return _wire(table.get_provider(session, resource_name(account, "providers", provider_id)))


@router.delete("/{provider_id}")
def delete(account: AccountId, provider_id: str, session: Writer) -> dict[str, Any]:
    """Remove a provider; its secret stays."""
    table.delete_provider(session, resource_name(account, "providers", provider_id))
    return {}


def _wire(row: ProviderRow) -> dict[str, Any]:
    return Provider.model_validate(
        {
            "name": row.name,
            "base_url": row.base_url,
            "models": row.models,
            "secret": row.secret,
            "create_time": row.created,
        }
    ).dump()
