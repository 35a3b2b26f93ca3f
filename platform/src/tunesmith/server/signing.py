"""Ways into the dashboard without typing a key: one-time links, and looking from the platform's own machine."""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass, field

from tunesmith.db.api_keys import find_key, new_key
from tunesmith.errors import Unauthenticated
from tunesmith.schemas.names import account_name
from tunesmith.schemas.users import Role
from tunesmith.server.control import ControlPlane
from tunesmith.settings import DEFAULT_ACCOUNT

LINK_SECONDS = 300.0
_minting = threading.Lock()


@dataclass
class Links:
    """One-time links of this process: token -> the key that it stands for, and when it ends (Unix seconds)."""

    _open: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def make(self, key: str) -> tuple[str, float]:
        """A token that stands for `key` once, and when it ends."""
        token, expires = secrets.token_urlsafe(32), time.time() + LINK_SECONDS
        with self._lock:
            self._open = {name: kept for name, kept in self._open.items() if kept[1] > time.time()}
            self._open[token] = (key, expires)
        return token, expires

    def take(self, token: str) -> str:
        """The key that a token stands for; the token is used up. Raises Unauthenticated."""
        with self._lock:
            key, expires = self._open.pop(token, ("", 0.0))
        if expires <= time.time():
            raise Unauthenticated(
                "This link was used already, or it is older than five minutes. `tunesmith dashboard` makes another one."
            )
        return key


def viewer_key(control: ControlPlane) -> str:
    """The key of whoever looks from this machine without one: role `viewer`, kept in `keys/viewer.key` (0600), made when it is missing."""
    path = control.settings.path("keys", "viewer.key")
    with _minting, control.sessions.begin() as session:
        key = path.read_text().strip() if path.is_file() else ""
        if find_key(session, key, control.keys.pepper) is not None:
            return key
        scope = {"kind": "account", "role": Role.VIEWER.value}
        account = account_name(DEFAULT_ACCOUNT)
        _, key = new_key(session, account, scope, "dashboard, without a key", None, control.keys.pepper)
        temporary = path.with_suffix(".tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"{key}\n")
        temporary.replace(path)
    return key
