"""Accounts: `accounts/local` on one machine, more behind a gateway of one's own."""

from __future__ import annotations

from sqlalchemy.orm import Session

from tunesmith.db.tables import Account


def ensure_account(session: Session, name: str, display_name: str = "") -> Account:
    """The account of that resource name, made if it is not there."""
    account = session.get(Account, name)
    if account is None:
        account = Account(name=name, display_name=display_name or name.removeprefix("accounts/"))
        session.add(account)
        session.flush()
    return account


def get_account(session: Session, name: str) -> Account | None:
    """The account of that resource name."""
    return session.get(Account, name)
