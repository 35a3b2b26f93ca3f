"""Who calls: the bearer key, its account and what it allows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session, sessionmaker
from starlette.requests import Request

from tunesmith.db.api_keys import find_key
from tunesmith.db.session import reading
from tunesmith.db.users import Rights, rights_of
from tunesmith.errors import PermissionDenied, Unauthenticated
from tunesmith.gateway.evaluator_socket import MARK
from tunesmith.schemas.users import Role
from tunesmith.settings import DEFAULT_ACCOUNT
from tunesmith.storage.keys import Keys

CACHE_SECONDS = 5.0
"""A revoked key is refused at most this much later."""


class KeyKind(StrEnum):
    """What a key may do (seams, "Keys have a scope")."""

    ACCOUNT = "account"
    """Everything of its account."""
    RUN = "run"
    """Inference and the internal routes of one job: the orchestrator."""
    ROLLOUT = "rollout"
    """Inference, logs, status and traces of one job, within a budget: evaluators and agents, which are not trusted."""
    INTERNAL = "internal"
    """The platform's own processes."""


@dataclass(frozen=True)
class Key:
    """An authenticated caller."""

    account: str
    """Resource name."""
    kind: KeyKind
    job: str | None = None
    """Id of the job that the key is bound to."""
    budget: int | None = None
    """Tokens that the job's recorded calls may hold before this key is refused; None: no bound."""
    rights: Rights = Rights(Role.ADMIN)
    """Of an account key: role and preset, which bound what it does beside model calls. Model calls are open to every role."""

    def require_internal(self) -> None:
        """Raise PermissionDenied unless the key opens internal routes."""
        if self.kind not in (KeyKind.RUN, KeyKind.INTERNAL):
            raise PermissionDenied(
                f"This route needs a job's run key or internal.key; a key of kind {self.kind.value} does not open it."
            )

    @property
    def only_inference(self) -> bool:
        """Whether model calls are all that the key is for: of what is served here, no other file or download, no records."""
        return self.rights.role is Role.INFERENCE_USER

    def require_changing(self) -> None:
        """Raise PermissionDenied when the key is for looking only."""
        if self.rights.role is Role.VIEWER:
            raise PermissionDenied(
                "Model calls need an API key: without one you can only look. Sign in with a key, or with a link from `tunesmith dashboard`."
            )

    def require_reading(self) -> None:
        """Raise PermissionDenied unless the key may read logs, statuses and traces."""
        if self.only_inference:
            raise PermissionDenied(
                f"ListInferenceLogs is not allowed to the role {self.rights.role}, which makes model calls only. "
                "Ask an admin of the account."
            )

    def require_posting(self) -> None:
        """Raise PermissionDenied unless the key may post logs, which set the status of rollouts."""
        if self.only_inference or self.rights.preset is not None:
            bound = (
                f"the permission preset {self.rights.preset}" if self.rights.preset else f"the role {self.rights.role}"
            )
            raise PermissionDenied(
                f"CreateInferenceLog is not allowed to {bound} of this key. Use the rollout's own key, or ask an admin of the account."
            )

    def owns(self, account: str, job: str) -> bool:
        """Whether something of that account and job is the key's to use."""
        if self.kind is KeyKind.INTERNAL:
            return True
        return account == self.account and self.job in (None, job)


def job_id(name: str) -> str:
    """A job's id: the last part of its resource name, or the id itself."""
    return name.rsplit("/", 1)[-1]


def account_name(account: str) -> str:
    """`accounts/{a}`, from that or from `{a}`."""
    return account if account.startswith("accounts/") else f"accounts/{account}"


class Authenticator:
    """Finds keys in the database and remembers them for a few seconds."""

    def __init__(self, sessions: sessionmaker[Session], keys: Keys) -> None:
        self._sessions = sessions
        self._keys = keys
        self._cache: dict[bytes, tuple[Key, float]] = {}

    async def authenticate(self, request: Request) -> Key:
        """The caller of a request. Raises Unauthenticated without a key that is known here."""
        token = presented_key(request)
        if not token:
            raise Unauthenticated(
                "No API key: send the header 'Authorization: Bearer KEY' (or 'x-api-key: KEY'). "
                "`tunesmith up` prints where the key is."
            )
        if not request.scope.get(MARK) and hmac.compare_digest(token, self._keys.internal.encode()):
            return Key(account_name(DEFAULT_ACCOUNT), KeyKind.INTERNAL)
        key = await self._known(token)
        if request.scope.get(MARK) and key.kind is not KeyKind.ROLLOUT:
            raise PermissionDenied(
                f"A key of kind {key.kind.value} is not taken from an evaluator's sandbox: use the job's own, which FIREWORKS_API_KEY holds there."
            )
        if request.method not in ("GET", "HEAD"):
            key.require_changing()
        return key

    async def _known(self, token: bytes) -> Key:
        digest = hashlib.sha256(token).digest()
        cached = self._cache.get(digest)
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]
        key = await asyncio.to_thread(self._find, token.decode())
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[digest] = (key, time.monotonic() + CACHE_SECONDS)
        return key

    def _find(self, token: str) -> Key:
        with reading(self._sessions) as session:
            row = find_key(session, token, self._keys.pepper)
            rights = rights_of(session, row) if row is not None else None
        if row is None or rights is None:
            raise Unauthenticated(
                "This API key is not known here (or it expired). `tunesmith env` prints the key of this platform."
            )
        job = row.scope.get("job")
        kind = KeyKind(row.scope.get("kind", "account"))
        return Key(row.account, kind, job_id(job) if job else None, row.scope.get("budget"), rights)


def presented_key(request: Request) -> bytes:
    """The key of a request, in UTF-8: the bearer, else Anthropic's header. Empty without one."""
    bearer, other = b"", b""
    for name, value in request.scope["headers"]:
        if name == b"authorization" and not bearer:
            scheme, _, token = value.partition(b" ")
            bearer = token.strip() if scheme.lower() == b"bearer" else b""
        elif name == b"x-api-key" and not other:
            other = value.strip()
    return (bearer or other).decode("latin-1").encode()
