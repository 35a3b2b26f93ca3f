"""Accounts on the wire."""

from __future__ import annotations

from tunesmith.schemas.wire import Status, Time, Wire


class Account(Wire):
    """An account, as the API shows it."""

    name: str
    display_name: str
    email: str = ""
    account_type: str = "ACCOUNT_TYPE_UNSPECIFIED"
    state: str = "READY"
    suspend_state: str = "UNSUSPENDED"
    status: Status = Status()
    create_time: Time
    update_time: Time
