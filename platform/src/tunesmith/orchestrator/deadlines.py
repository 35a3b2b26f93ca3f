"""Slow agents: when a group stops waiting for its stragglers.

The clock of a group starts when half of its rollouts have ended. Time in the queue, and what a hard row takes everybody, do not count
against it: a straggler is slow beside the others of its own group. Past the deadline the group goes on as soon as it has its quorum of
valid scores; without one it waits on, as if there were no deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class GroupDeadline:
    """What a run allows its groups."""

    seconds: float
    """From the end of half of a group's rollouts, rounded up."""
    quorum: int
    """Valid scores with which a group may go on."""


class GroupClocks:
    """The groups of one plan. It is told of every rollout that has ended, and says which groups go on without the rest.

    Args:
        deadline: what groups are allowed; None: they wait for all of their rollouts.
        n: rollouts of a group.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, deadline: GroupDeadline | None, n: int, now: Callable[[], float] = time.monotonic) -> None:
        self._deadline = deadline
        self._n = n
        self._now = now
        self._ended: Counter[int] = Counter()
        self._valid: Counter[int] = Counter()
        self._half: dict[int, float] = {}
        """When half of a group had ended, of the groups that still wait for some."""

    def ended(self, row: int, *, valid: bool) -> None:
        """One more rollout of a group has ended, for good."""
        self._ended[row] += 1
        self._valid[row] += valid
        if self._ended[row] >= self._n:
            self._half.pop(row, None)
        elif self._ended[row] * 2 >= self._n:
            self._half.setdefault(row, self._now())

    def due(self) -> list[int]:
        """Groups (row indices) that go on now, without what has not ended. Each is named once."""
        if self._deadline is None:
            return []
        latest = self._now() - self._deadline.seconds
        rows = [row for row, half in self._half.items() if half <= latest and self._valid[row] >= self._deadline.quorum]
        for row in rows:
            del self._half[row]
        return rows

    def valid(self, row: int) -> int:
        """Valid scores of a group so far."""
        return self._valid[row]

    def seconds_left(self) -> float | None:
        """Until the next group with a quorum is due; None: only the end of another rollout can make one so."""
        if self._deadline is None:
            return None
        ready = [half for row, half in self._half.items() if self._valid[row] >= self._deadline.quorum]
        return max(0.0, min(ready) + self._deadline.seconds - self._now()) if ready else None


async def paced(events: AsyncGenerator[T, None], seconds_left: Callable[[], float | None]) -> AsyncIterator[T | None]:
    """The events as they come, and None whenever `seconds_left()` (None: without end) has passed before the next. Closes `events`."""
    upcoming: asyncio.Task[T] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events))  # pyright: ignore[reportArgumentType]
            await asyncio.wait({upcoming}, timeout=seconds_left())
            if not upcoming.done():
                yield None
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield event
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(
                upcoming, return_exceptions=True
            )  # whoever stopped reading has no use for how it ended
        await events.aclose()


def stragglers(
    wanted: Iterable[tuple[int, int]], done: Iterable[tuple[int, int]], rows: Iterable[int]
) -> list[tuple[int, int]]:
    """(row, k) of what has not ended in these groups."""
    ended, groups = set(done), set(rows)
    return [key for key in wanted if key[0] in groups and key not in ended]
