"""Events taken several at a time: none is lost, none waits for what cannot come, and an error comes behind what came before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from tunesmith.orchestrator.gathering import batched, together

LONG = 3600.0
"""Seconds that no test can wait."""


class Source:
    """Events as a test lets them come."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | Exception | None] = asyncio.Queue()
        self.closed = False

    async def events(self) -> AsyncGenerator[int, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True

    def put(self, *items: int | Exception | None) -> None:
        for item in items:
            self.queue.put_nowait(item)


async def test_what_comes_meanwhile_is_taken_together_and_the_last_waits_for_nothing() -> None:
    source = Source()
    taken = together(source.events(), LONG, expected=5, most=3)
    source.put(1, 2, 3, 4, 5)
    assert [await anext(taken), await anext(taken)] == [[1, 2, 3], [4, 5]]
    source.put(6)  # more than was expected
    assert await anext(taken) == [6]
    source.put(None)
    with pytest.raises(StopAsyncIteration):
        await anext(taken)
    assert source.closed


async def test_an_event_without_company_is_taken_when_its_time_is_over() -> None:
    source = Source()
    taken = together(source.events(), 0.001, expected=9, most=3)
    for event in (1, 2):
        source.put(event)
        assert await anext(taken) == [event]
    await taken.aclose()
    assert source.closed


async def test_an_end_and_an_error_come_at_once_behind_what_came_before() -> None:
    source = Source()
    taken = together(source.events(), LONG, expected=9, most=9)
    source.put(1, 2, None)
    assert [part async for part in taken] == [[1, 2]]
    source = Source()
    taken = together(source.events(), LONG, expected=9, most=9)
    source.put(1, ValueError("broken"))
    assert await anext(taken) == [1]
    with pytest.raises(ValueError, match="broken"):
        await anext(taken)


async def test_whoever_stops_reading_stops_the_source() -> None:
    source = Source()
    taken = together(source.events(), LONG, expected=1, most=1)
    source.put(1)
    assert await anext(taken) == [1]
    await taken.aclose()
    assert source.closed


@pytest.mark.parametrize(("count", "parts"), [(0, []), (2, [[0, 1]]), (5, [[0, 1], [2, 3], [4]])])
def test_parts_hold_everything_in_order(count: int, parts: list[Sequence[int]]) -> None:
    assert list(batched(range(count), 2)) == [range(part[0], part[-1] + 1) for part in parts]
