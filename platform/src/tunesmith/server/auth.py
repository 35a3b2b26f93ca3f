"""Who calls the control plane: a bearer key whose scope is an account, and that account must be the one in the path.

Every route that asks for a key asks here, so this is where role and preset of the key are held against the call.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from tunesmith.db.api_keys import find_key
from tunesmith.db.session import reading
from tunesmith.db.tables import ApiKey
from tunesmith.db.users import Rights, rights_of
from tunesmith.errors import PermissionDenied, Unauthenticated
from tunesmith.server import permissions
from tunesmith.server.control import Control, ControlPlane


def bearer(request: Request) -> str:
    """The key that a request presents. Raises Unauthenticated when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "No API key: send the header 'Authorization: Bearer KEY'. `tunesmith env` prints the key of this platform."
        )
    return token.strip()


def account_key(request: Request, control: ControlPlane) -> ApiKey:
    """The caller's key, allowed to make this call.

    Raises Unauthenticated when it is unknown, PermissionDenied when it is bound to one job, or its role or preset excludes the call.
    """
    return known_key(control, bearer(request), request.method, request.scope["route"].path)[0]


def known_key(control: ControlPlane, token: str, method: str, path: str) -> tuple[ApiKey, Rights]:
    """The key of that plaintext and what it may do, allowed to call the route `method` `path` (as the app declares it).

    Raises as `account_key`.
    """
    with reading(control.sessions) as session:
        key = find_key(session, token, control.keys.pepper)
        rights = rights_of(session, key) if key is not None else None
    if key is None or rights is None:
        raise Unauthenticated(
            "This API key is not known here, or it has expired. `tunesmith env` prints the key of this platform."
        )
    if key.scope.get("kind") != "account":
        raise PermissionDenied(
            f"This key serves the model calls of {key.scope.get('job')} only. Use a key of the account."
        )
    permissions.check(rights, method, path)
    return key, rights


def _caller(request: Request, control: Control) -> str:
    key = account_key(request, control)
    request.state.user = key.user or ""
    return key.account.removeprefix("accounts/")


Caller = Annotated[str, Depends(_caller)]
"""Short id of the caller's account."""


def _account(account_id: str, caller: Caller) -> str:
    if account_id != caller:
        raise PermissionDenied(f"This key belongs to accounts/{caller}, not to accounts/{account_id[:80]}.")
    return account_id


AccountId = Annotated[str, Depends(_account)]
"""Short id of the account in the path, which is the caller's."""


def _user(request: Request, _caller: Caller) -> str:
    return request.state.user


CallingUser = Annotated[str, Depends(_user)]
"""Resource name of the user whose key the call carries; empty for the account's own key."""
