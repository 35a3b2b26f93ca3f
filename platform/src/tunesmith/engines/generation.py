"""A request's events between whoever computes them and whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tunesmith.engines.engine import CandidateEvent
from tunesmith.errors import TunesmithError


class QueuedGeneration:
    """A request's events, queued in the event loop."""

    def __init__(self, candidates: int, cancel: Callable[[], None]) -> None:
        self._queue: asyncio.Queue[CandidateEvent | TunesmithError | None] = asyncio.Queue()
        self._unfinished = candidates
        self._over = False
        self._cancel = cancel

    async def next_events(self) -> Sequence[CandidateEvent]:
        """Wait for at least one event and take all that are there."""
        events: list[CandidateEvent] = []
        while not self._over and (not events or not self._queue.empty()):
            item = await self._queue.get()
            if isinstance(item, CandidateEvent):
                events.append(item)
                continue
            if events:  # what came before the end is handed out before it
                self._queue.put_nowait(item)
                break
            self._over = True
            if item is not None:
                raise item
        return events

    def cancel(self) -> None:
        """Free what the request holds; whoever waits for events gets none."""
        self._cancel()
        self._queue.put_nowait(None)

    def put(self, item: CandidateEvent | TunesmithError) -> bool:
        """Called in the event loop with the next event, or the error that ends the request; says whether it was the last."""
        self._queue.put_nowait(item)
        if isinstance(item, TunesmithError):
            return True
        self._unfinished -= item.finish_reason is not None
        if not self._unfinished:
            self._queue.put_nowait(None)
        return not self._unfinished
