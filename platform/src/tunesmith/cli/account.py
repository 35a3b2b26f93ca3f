"""The account `local` and a client profile that works: what `up` sees to before anything starts."""

from __future__ import annotations

from pathlib import Path

from tunesmith.cli.profile import Profile, find_profile, write_profile
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import find_key, new_key
from tunesmith.db.session import open_database
from tunesmith.settings import DEFAULT_ACCOUNT, Settings
from tunesmith.storage.keys import load_keys


def ensure_profile(settings: Settings, api_base: str) -> tuple[Path, str]:
    """Migrate the database, make keys and account, and write the profile unless it holds a key of this platform.

    Returns the profile's path and a note for the user (empty when there is nothing to say).
    """
    keys = load_keys(settings)
    account = f"accounts/{DEFAULT_ACCOUNT}"
    before = find_profile()
    sessions = open_database(settings.path("tunesmith.db"))
    try:
        with sessions.begin() as session:
            ensure_account(session, account, DEFAULT_ACCOUNT)
            row = find_key(session, before.api_key, keys.pepper) if before else None
            if before and row is not None and row.account == account and row.scope == {"kind": "account"}:
                key, note = before.api_key, ""
            else:
                scope = {"kind": "account"}
                _, key = new_key(session, account, scope, "made by tunesmith up", None, keys.pepper)
                note = f" (in place of the profile of {before.api_base})" if before else ""
    finally:
        sessions.kw["bind"].dispose()
    return write_profile(Profile(api_base, key, DEFAULT_ACCOUNT)), note
