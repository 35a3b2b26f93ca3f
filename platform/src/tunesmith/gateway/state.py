"""Everything that the gateway's routes share, made from the settings of one platform."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db.completions import CompletionStore
from tunesmith.db.rollout_logs import LogStore
from tunesmith.db.session import open_database
from tunesmith.gateway.adapters import Adapters
from tunesmith.gateway.admission import Admission
from tunesmith.gateway.auth import Authenticator
from tunesmith.gateway.calls import Calls
from tunesmith.gateway.engines import Engines
from tunesmith.gateway.generation import Background
from tunesmith.gateway.models import Models
from tunesmith.gateway.rollouts import Rollouts
from tunesmith.gateway.states import RolloutStates
from tunesmith.gateway.upstreams import Upstreams
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys


class GatewayState:
    """Database, completion store, engines and what is kept in memory. One per web process.

    `start` must be awaited in the serving event loop before the first call and `close` after the last; `lifespan` does both.
    """

    def __init__(self, settings: Settings, sessions: sessionmaker[Session] | None = None) -> None:
        """Open the files of a data folder. `sessions` shares the control plane's database where one process serves both."""
        keys = load_keys(settings)
        self.settings = settings
        self.sessions = sessions or open_database(settings.path("tunesmith.db"))
        self.store = CompletionStore(settings.path("completions.db"))
        self.engines = Engines(settings.path("supervisor.sock"), keys.engine)
        self.upstreams = Upstreams(settings, self.sessions, keys)
        self.models = Models(self.sessions, settings, self.engines)
        self.adapters = Adapters(self.engines)
        self.authenticator = Authenticator(self.sessions, keys)
        self.rollouts = Rollouts(self.store)
        self.logs = LogStore(self.store.file)
        self.states = RolloutStates(self.logs)
        self.admission = Admission(self.store, self.states)
        self.calls = Calls(self.models, self.rollouts, self.admission)
        self.started = time.monotonic()
        self.background = Background()

    async def start(self) -> None:
        """Open the connections to engines and supervisor."""
        await self.engines.start()
        await self.upstreams.start()

    async def close(self) -> None:
        """Finish what was cut, commit what is queued, close everything."""
        await self.background.drain()
        await asyncio.to_thread(self.store.close)
        await self.engines.close()
        await self.upstreams.close()

    @asynccontextmanager
    async def lifespan(self, _app: Any = None) -> AsyncIterator[None]:
        """For Starlette's `lifespan`, alone or inside another one."""
        await self.start()
        try:
            yield
        finally:
            await self.close()
