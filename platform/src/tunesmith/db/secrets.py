"""Secrets of an account: stored sealed, listed without their values, opened only for the processes that need them."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Secret
from tunesmith.errors import AlreadyExists, NotFound
from tunesmith.storage.encryption import decrypt, encrypt

FIELDS = Fields(
    key=Secret.name,
    order={"name": Secret.name, "create_time": Secret.created, "update_time": Secret.updated},
    filters={"name": Secret.name, "key_name": Secret.key_name},
    default_order="name",
)


def create_secret(session: Session, account: str, name: str, key_name: str, value: str, master: bytes) -> Secret:
    """Store a secret of `account` under its resource name; the same create again is fine. Raises AlreadyExists."""
    existing = session.get(Secret, name)
    if existing is not None and existing.key_name == key_name and _open(existing, master) == value:
        return existing
    if existing is not None:
        raise AlreadyExists(f"The secret {name} exists already. Change it with PATCH, or delete it first.")
    secret = Secret(
        name=name, account=account, key_name=key_name, ciphertext=encrypt(master, value, _owner(account, key_name))
    )
    session.add(secret)
    session.flush()
    return secret


def update_secret(session: Session, name: str, key_name: str | None, value: str | None, master: bytes) -> Secret:
    """Change key name, value or both. Raises NotFound."""
    secret = get_secret(session, name)
    plain = value if value is not None else _open(secret, master)
    secret.key_name = key_name or secret.key_name
    secret.ciphertext = encrypt(master, plain, _owner(secret.account, secret.key_name))
    secret.updated = time.time()
    return secret


def get_secret(session: Session, name: str) -> Secret:
    """The secret of that resource name. Raises NotFound."""
    secret = session.get(Secret, name)
    if secret is None:
        raise NotFound(f"There is no secret {name}.")
    return secret


def delete_secret(session: Session, name: str) -> None:
    """Remove a secret. Raises NotFound."""
    session.delete(get_secret(session, name))


def list_secrets(session: Session, account: str, query: ListQuery) -> tuple[list[Secret], str]:
    """One page of an account's secrets and the token of the next."""
    return page(session, Secret, [Secret.account == account], FIELDS, query)


def secret_value(session: Session, name: str, master: bytes) -> str | None:
    """Plaintext of one secret; None when there is none of that name. Raises Internal when it cannot be decrypted."""
    secret = session.get(Secret, name)
    return None if secret is None else _open(secret, master)


def secret_values(session: Session, account: str, master: bytes) -> dict[str, str]:
    """Environment of an account's evaluators: key name -> plaintext. Of two with one key name, the one set last wins.

    Raises Internal when a value cannot be decrypted.
    """
    rows = session.scalars(select(Secret).where(Secret.account == account).order_by(Secret.updated, Secret.name))
    return {secret.key_name: _open(secret, master) for secret in rows}


def _open(secret: Secret, master: bytes) -> str:
    return decrypt(master, secret.ciphertext, _owner(secret.account, secret.key_name))


def _owner(account: str, key_name: str) -> str:
    return f"{account} {key_name}"
