"""Events taken several at a time: what is done with many of them at once costs little more than with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def together(
    events: AsyncGenerator[T, None], seconds: float, expected: int, most: int
) -> AsyncGenerator[list[T], None]:
    """The events in order, in lists of at most `most`. The first of a list has waited for the others `seconds` at most.

    Nothing waits once `expected` events have come, or the last one. An error of `events` is raised behind what came before it.
    Closes `events`.
    """
    waiting: list[T] = []
    come, full = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        count = 0
        try:
            async with aclosing(events):
                async for event in events:
                    waiting.append(event)
                    count += 1
                    come.set()
                    if count >= expected or len(waiting) >= most:
                        full.set()
        finally:
            come.set()
            full.set()

    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(read())
    try:
        while True:
            await come.wait()
            if not full.is_set():
                timer = loop.call_later(seconds, full.set)
                await full.wait()
                timer.cancel()
            taken = waiting[:most]
            del waiting[:most]
            if not waiting and not reading.done():
                come.clear()
                full.clear()
            if taken:
                yield taken
            elif reading.done():
                break
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    reading.result()


def batched(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in order, in parts of at most `most`."""
    return (items[start : start + most] for start in range(0, len(items), most))
