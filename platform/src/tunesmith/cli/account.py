"""The account `local` and its key: what `up` sees to before anything starts, and the profile that it writes once all answers."""

from __future__ import annotations

from pathlib import Path

from tunesmith.cli.profile import Profile, find_profile, put_aside, write_private, write_profile
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import find_key, new_key
from tunesmith.db.session import open_database
from tunesmith.settings import DEFAULT_ACCOUNT, Settings
from tunesmith.storage.keys import load_keys


def ensure_account_key(settings: Settings) -> str:
    """Migrate the database, make keys and account; the account's key, which stays in `keys/account.key` (0600).

    A key that is still valid is used again: the profile's, else that of the file. Only without either a new one is made.
    """
    keys = load_keys(settings)
    account, scope = f"accounts/{DEFAULT_ACCOUNT}", {"kind": "account"}
    file = settings.path("keys", "account.key")
    before = find_profile()
    candidates = [before.api_key if before else "", file.read_text().strip() if file.exists() else ""]
    sessions = open_database(settings.path("tunesmith.db"))
    try:
        with sessions.begin() as session:
            ensure_account(session, account, DEFAULT_ACCOUNT)
            for key in candidates:
                row = find_key(session, key, keys.pepper)
                if row is not None and row.account == account and row.scope == scope and row.user is None:
                    break
            else:
                _, key = new_key(session, account, scope, "made by tunesmith up", None, keys.pepper)
    finally:
        sessions.kw["bind"].dispose()
    write_private(file, key + "\n")
    return key


def publish_profile(api_base: str, key: str) -> tuple[Path, str]:
    """Point the client profile at this platform; another platform's is put aside, with its key.

    Returns the profile's path and a note for the user (empty when there is nothing to say).
    """
    before = find_profile()
    note = ""
    if before and before.api_key != key:
        note = f" (in place of the profile of {before.api_base}, now {put_aside(before)})"
    return write_profile(Profile(api_base, key, DEFAULT_ACCOUNT)), note
