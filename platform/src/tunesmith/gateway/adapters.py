"""Which adapters an engine holds: live policies until they are retired, promoted models as long as they are used.

The tables are the truth. An engine that was restarted holds none of them and says so (`adapter_not_loaded`); then they are
loaded again and the call goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from tunesmith.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, TunesmithError
from tunesmith.gateway.engines import EngineEvent, Engines
from tunesmith.gateway.errors import AdapterNotLoaded, EngineLost
from tunesmith.gateway.models import PROMOTED_MARK, Adapter, Target

log = logging.getLogger(__name__)

MAX_PROMOTED = 8
"""Promoted models that one engine holds; the least recently used one makes room for the next."""
_ATTEMPTS = 3


class Adapters:
    """Engine calls on behalf of a target, with its adapter in place."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._loading: dict[str, asyncio.Lock] = {}
        self._last_used: dict[str, float] = {}
        self._running: dict[str, int] = {}

    async def load(self, base_model: str, adapter: Adapter) -> str:
        """Have the engine read an adapter; returns the sha256 of what it read.

        Raises AlreadyExists when the engine holds other weights under the name, NotFound or InvalidArgument when the
        folder is no adapter for this base.
        """
        if adapter.promoted:
            await self._make_room(base_model, adapter.name)
        body = {"name": adapter.name, "path": adapter.path}
        return (await self._engines.call(base_model, "POST", "/load", body))["sha256"]

    async def unload(self, base_model: str, name: str) -> None:
        """Free the engine's memory of an adapter. One that is not there, or an engine that is not, is fine."""
        try:
            await self._engines.call(base_model, "POST", "/unload", {"name": name})
        except TunesmithError as error:
            log.info("%s was not unloaded: %s", name, error.message)

    async def events(self, target: Target, body: dict[str, Any]) -> AsyncIterator[list[EngineEvent]]:
        """The events of one `/generate`; an adapter that the engine lost is loaded and the call repeated."""
        name = target.adapter.name if target.adapter else ""
        self._running[name] = self._running.get(name, 0) + 1
        self._last_used[name] = time.monotonic()
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    stream = self._engines.events(target.base.entry.name, {**body, "model": name or None})
                    async with aclosing(stream) as events:  # type: ignore[type-var] - an async generator, typed as iterator
                        async for arrived in events:
                            yield arrived
                    return
                except AdapterNotLoaded:
                    await self._reload(target, attempt)
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]

    async def score(self, target: Target, token_ids: list[int]) -> list[float]:
        """Log-probabilities [len - 1] at temperature 1 of a sequence under the target."""
        body = {"model": target.adapter.name if target.adapter else None, "token_ids": token_ids}
        for attempt in range(_ATTEMPTS):
            try:
                return (await self._engines.call(target.base.entry.name, "POST", "/score", body))["logprobs"]
            except AdapterNotLoaded:
                await self._reload(target, attempt)
        raise AssertionError("unreachable")

    async def _reload(self, target: Target, attempt: int) -> None:
        adapter = target.adapter
        if adapter is None or attempt + 1 == _ATTEMPTS:
            raise EngineLost(
                f"The engine of {target.base.entry.name} keeps losing the adapter {target.name}. Try again."
            )
        place = target.base.entry.name if adapter.promoted else adapter.name  # promoted models share their places
        async with self._loading.setdefault(place, asyncio.Lock()):
            held = await self._held(target.base.entry.name)
            if adapter.name in held:
                return  # another call was faster
            try:
                read = await self.load(target.base.entry.name, adapter)
            except (NotFound, InvalidArgument) as error:
                raise FailedPrecondition(
                    f"The adapter of {target.name} cannot be read any more: {error.message}"
                ) from error
        if read != adapter.sha256:
            await self.unload(target.base.entry.name, adapter.name)
            raise AlreadyExists(
                f"The file of {target.name} at {adapter.path} changed since it was published (sha256 {read[:12]}… instead of "
                f"{adapter.sha256[:12]}…). It is not served; put the original back."
            )

    async def _make_room(self, base_model: str, coming: str) -> None:
        held = [name for name in await self._held(base_model) if PROMOTED_MARK in name and name != coming]
        held.sort(key=lambda name: self._last_used.get(name, 0.0))
        for name in held[: max(0, len(held) - MAX_PROMOTED + 1)]:
            if not self._running.get(name):
                await self.unload(base_model, name)

    async def _held(self, base_model: str) -> set[str]:
        info = await self._engines.call(base_model, "GET", "/info")
        return {adapter["name"] for adapter in info["adapters"]}
