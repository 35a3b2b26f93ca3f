"""Bearer keys: made once, shown once, kept as HMAC-SHA256 under the pepper.

A key reads `ts_{id}_{secret}`: the row is found by its id and the whole key compared in constant time,
so that neither the database nor the time of an answer tells anything about a key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import ApiKey
from tunesmith.errors import NotFound

FIELDS = Fields(
    key=ApiKey.id,
    order={"create_time": ApiKey.created, "display_name": ApiKey.display_name, "expire_time": ApiKey.expires},
    filters={"display_name": ApiKey.display_name, "key_id": ApiKey.id, "prefix": ApiKey.prefix},
)
_SHAPE = re.compile(r"ts_([0-9a-f]{12})_[0-9a-f]{48}")


def new_key(
    session: Session,
    account: str,
    scope: dict[str, Any],
    display_name: str,
    expires: float | None,
    pepper: bytes,
    user: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key of `account` (resource name) and return its row and the plaintext, which is not kept anywhere.

    `scope` is `{"kind": "account"}` (a session's with `preset` and `session`), or `{"kind": "run" | "rollout", "job": resource
    name}`, a rollout key's with its `budget` in tokens where it has one; `expires` is Unix seconds or None; `user` the resource
    name of the user that it belongs to.
    """
    identity = secrets.token_hex(6)
    plaintext = f"ts_{identity}_{secrets.token_hex(24)}"
    row = ApiKey(
        id=identity,
        account=account,
        digest=_digest(plaintext, pepper),
        prefix=plaintext[:8],
        display_name=display_name,
        user=user,
        scope=scope,
        created=time.time(),
        expires=expires,
    )
    session.add(row)
    session.flush()
    return row, plaintext


def find_key(session: Session, plaintext: str, pepper: bytes) -> ApiKey | None:
    """The row of a presented key; None when it is unknown, malformed or expired."""
    shape = _SHAPE.fullmatch(plaintext)
    row = session.get(ApiKey, shape.group(1)) if shape else None
    if row is None or not hmac.compare_digest(row.digest, _digest(plaintext, pepper)):
        return None
    if row.expires is not None and row.expires <= time.time():
        return None
    return row


def delete_keys_of_job(session: Session, job: str) -> None:
    """End every key that is scoped to a job (resource name)."""
    session.execute(delete(ApiKey).where(ApiKey.scope["job"].as_string() == job))


def list_keys(session: Session, user: str, query: ListQuery) -> tuple[list[ApiKey], str]:
    """One page of a user's keys (by the user's resource name) and the token of the next."""
    return page(session, ApiKey, [ApiKey.user == user], FIELDS, query)


def delete_key(session: Session, user: str, identity: str) -> None:
    """End one key of a user. Raises NotFound."""
    key = session.get(ApiKey, identity)
    if key is None or key.user != user:
        raise NotFound(f"{user} has no key {identity[:80]!r}. Its keys are listed under {user}/apiKeys.")
    session.delete(key)


def _digest(plaintext: str, pepper: bytes) -> str:
    return hmac.new(pepper, plaintext.encode(), hashlib.sha256).hexdigest()
