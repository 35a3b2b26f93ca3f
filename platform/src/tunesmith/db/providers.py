"""Providers of an account: upstreams that answer for models which are not served here."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.secrets import secret_value
from tunesmith.db.tables import Provider
from tunesmith.errors import AlreadyExists, NotFound

FIELDS = Fields(
    key=Provider.name,
    order={"name": Provider.name, "create_time": Provider.created},
    filters={"name": Provider.name, "base_url": Provider.base_url},
    default_order="name",
)


@dataclass(frozen=True)
class KnownProvider:
    """A provider with its key opened."""

    name: str
    base_url: str
    models: tuple[str, ...]
    """Patterns of model names (`gpt-*`)."""
    secret: str | None
    """Resource name of the secret that holds the key; None where the upstream needs none."""
    key: str | None = field(repr=False)


def create_provider(
    session: Session, account: str, name: str, base_url: str, models: list[str], secret: str | None
) -> Provider:
    """Store a provider of `account` under its resource name; the same create again is fine. Raises AlreadyExists."""
    existing = session.get(Provider, name)
    if existing is not None:
        if (existing.base_url, existing.models, existing.secret) == (base_url, models, secret):
            return existing
        raise AlreadyExists(f"The provider {name} exists already, with other settings. Delete it first.")
    provider = Provider(name=name, account=account, base_url=base_url, models=models, secret=secret)
    session.add(provider)
    session.flush()
    return provider


def get_provider(session: Session, name: str) -> Provider:
    """The provider of that resource name. Raises NotFound."""
    provider = session.get(Provider, name)
    if provider is None:
        raise NotFound(f"There is no provider {name}.")
    return provider


def delete_provider(session: Session, name: str) -> None:
    """Remove a provider. Raises NotFound."""
    session.delete(get_provider(session, name))


def list_providers(session: Session, account: str, query: ListQuery) -> tuple[list[Provider], str]:
    """One page of an account's providers and the token of the next."""
    return page(session, Provider, [Provider.account == account], FIELDS, query)


def known_providers(session: Session, account: str, master: bytes) -> list[KnownProvider]:
    """All providers of an account with their keys, by name. Raises Internal when a key cannot be decrypted."""
    rows = session.scalars(select(Provider).where(Provider.account == account).order_by(Provider.name))
    return [
        KnownProvider(
            row.name,
            row.base_url,
            tuple(row.models),
            row.secret,
            secret_value(session, row.secret, master) if row.secret else None,
        )
        for row in rows
    ]
