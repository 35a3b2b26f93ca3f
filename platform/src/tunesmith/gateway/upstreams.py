"""Where a model lives that is not served here: at the caller's `encoded_base_url`, or at a provider of the account.

A key goes only to the origin that it belongs to: a provider's to the provider, else the one that the request brings along. The
platform's own keys go nowhere.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, cast

import aiohttp
from sqlalchemy.orm import Session, sessionmaker
from starlette.requests import Request
from yarl import URL

from tunesmith.catalog import is_listed
from tunesmith.db.providers import KnownProvider, known_providers
from tunesmith.db.session import reading
from tunesmith.errors import FailedPrecondition
from tunesmith.gateway.addresses import AddressGuard, GuardedConnector
from tunesmith.gateway.connections import CONNECT_SECONDS, Connections
from tunesmith.gateway.errors import BadRequest
from tunesmith.settings import Settings
from tunesmith.storage.keys import Keys

CACHE_SECONDS = 5.0
"""A provider that was changed or deleted is called as it was for at most this much longer."""
_KEY_HEADER = b"x-upstream-api-key"
_OWN_KEY = re.compile(r"ts_[0-9a-f]{12}_[0-9a-f]{48}")


@dataclass(frozen=True)
class Upstream:
    """Where a call is passed on to."""

    base: URL
    key: str | None = field(repr=False)
    provider: str | None
    """Resource name of the provider whose key it is."""

    def url(self, path: str) -> URL:
        """The address of a call. Anthropic's clients give a base without `/v1`, OpenAI's one that has whatever it needs."""
        return _joined(self.base, path)


class _Content(Protocol):
    def iter_any(self) -> AsyncIterator[bytes]: ...
    def is_eof(self) -> bool: ...


class UpstreamAnswer(Protocol):
    """An answer of which the head was read; to be released when all of it was, else closed."""

    @property
    def status(self) -> int:
        """Of HTTP."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name; ask in lower case."""
        ...

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """As they came, several of one name too."""
        ...

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        ...

    @property
    def content_length(self) -> int | None:
        """As announced."""
        ...

    @property
    def content(self) -> _Content:
        """The body, piece by piece, unpacked."""
        ...

    async def read(self) -> bytes:
        """The body as a whole."""
        ...

    def release(self) -> Any:
        """Give the connection back."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@lru_cache(1024)
def _joined(base: URL, path: str) -> URL:
    behind = base.path.rstrip("/")
    if path == "/messages" and not behind.endswith("/v1"):
        behind += "/v1"
    return base.with_path(behind + path)


def is_ours(model: str, upstream_given: bool) -> bool:
    """Whether a name is answered here: resource names and folders always; a catalogue's Hugging Face id unless the call itself
    says where else its model is."""
    return model.startswith(("accounts/", "/", "file:", "~", ".")) or (not upstream_given and is_listed(model))


class Upstreams:
    """Finds upstreams and holds the connections to them."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], keys: Keys) -> None:
        """Raises InvalidArgument for a setting that cannot be understood."""
        self.guard = AddressGuard(settings.allowed_upstreams)
        self._proxy = settings.upstream_proxy or None
        self._silence = settings.upstream_timeout_seconds
        self._sessions = sessions
        self._keys = keys
        self._providers: dict[str, tuple[list[KnownProvider], float]] = {}
        self._connections: Connections | None = None
        self._http: aiohttp.ClientSession | None = None
        """In the place of the above where there is a proxy."""

    async def start(self) -> None:
        """Open the connection pool; to be called in the event loop that serves."""
        if not self._proxy:
            self._connections = Connections(self.guard, self._silence)
            return
        proxy = URL(self._proxy)
        guard = AddressGuard(
            [f"[{proxy.host}]:{proxy.port}" if ":" in (proxy.host or "") else f"{proxy.host}:{proxy.port}"]
        )
        self._http = aiohttp.ClientSession(
            connector=GuardedConnector(guard, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._silence),
            cookie_jar=aiohttp.DummyCookieJar(),  # one caller's cookies are not another's
            trust_env=False,
            read_bufsize=2**18,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._connections is not None:
            await self._connections.close()
        if self._http is not None:
            await self._http.close()

    async def find(
        self, account: str, model: str, base_url: str | None, request: Request, brought: Any
    ) -> Upstream | None:
        """The upstream of a model that is not served here; None when nobody names one.

        `base_url` is the caller's, `brought` the body's `api_key`. Raises InvalidArgument or UpstreamRefused for a base URL that
        is not called, FailedPrecondition for a provider whose key is gone.
        """
        providers = await self._of_account(account)
        if base_url is None:
            named = [p for p in providers if any(fnmatch.fnmatchcase(model, pattern) for pattern in p.models)]
            return await self._checked(self._of_provider(named[0])) if named else None
        base = self.guard.check_url(base_url)
        own = [p for p in providers if URL(p.base_url).origin() == base.origin()]
        own.sort(key=lambda p: not any(fnmatch.fnmatchcase(model, pattern) for pattern in p.models))
        if own:
            return await self._checked(Upstream(base, self._of_provider(own[0]).key, own[0].name))
        return await self._checked(Upstream(base, self._brought(request, brought), None))

    async def post(self, url: URL, body: bytes, headers: dict[str, str]) -> UpstreamAnswer:
        """The upstream's answer, its head read. Redirects are not followed: the next address is not one that was asked for.

        Raises UpstreamRefused, FailedPrecondition, and what connections raise that break or are silent (aiohttp's behind a proxy).
        """
        if self._connections is not None:
            return await self._connections.post(url, body, headers)
        assert self._http is not None, "Upstreams.start was not called"
        answer = await self._http.post(url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy)
        return cast(UpstreamAnswer, answer)  # it is; aiohttp's properties hide that

    async def _checked(self, upstream: Upstream) -> Upstream:
        """Behind a proxy the connector sees only the proxy, so the addresses of the host are looked at beforehand."""
        if self._proxy:
            connector = GuardedConnector(self.guard)
            try:
                await connector._resolve_host(upstream.base.raw_host or "", upstream.base.port or 0)
            finally:
                await connector.close()
        return upstream

    def _of_provider(self, provider: KnownProvider) -> Upstream:
        if provider.secret and provider.key is None:
            raise FailedPrecondition(
                f"{provider.name} takes its key from {provider.secret}, which does not exist. Store that secret, or change the provider."
            )
        return Upstream(self.guard.check_url(provider.base_url), provider.key, provider.name)

    def _brought(self, request: Request, brought: Any) -> str | None:
        """The key that the request brings for its upstream."""
        given = next((value for name, value in request.scope["headers"] if name == _KEY_HEADER), b"")
        key = given.decode("latin-1") or brought
        if key is None or key == "":
            return None
        if not isinstance(key, str) or not key.isascii() or not key.isprintable() or len(key) > 4096:
            raise BadRequest("api_key is not a key: send a text of printable ASCII.", "api_key")
        if _OWN_KEY.search(key) or key in (self._keys.internal, self._keys.engine):
            raise BadRequest(
                "api_key holds a key of this platform, which is not passed on. Send the upstream's own key there, or make a provider "
                "(`tunesmith provider create`) that holds it.",
                "api_key",
            )
        return key

    async def _of_account(self, account: str) -> list[KnownProvider]:
        cached = self._providers.get(account)
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]

        def read() -> list[KnownProvider]:
            with reading(self._sessions) as session:
                return known_providers(session, account, self._keys.master)

        found = await asyncio.to_thread(read)
        self._providers[account] = (found, time.monotonic() + CACHE_SECONDS)
        return found
