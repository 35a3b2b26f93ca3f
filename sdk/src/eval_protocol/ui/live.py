"""Server-sent events: what changed in the store, told to every open page, at most four times a second.

Nothing is asked while nothing happens: writers wake the server through its socket (results/watch.py). Only while rollouts run, the
processes that run them are looked at every five seconds, because a dead process wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from aiohttp import web

from eval_protocol.errors import EvalProtocolError
from eval_protocol.results import changes
from eval_protocol.results.changes import Changes, Place
from eval_protocol.results.listing import count
from eval_protocol.results.lost import abort_lost, running_processes
from eval_protocol.results.watch import Caller, Ear
from eval_protocol.ui.reader import Reader

SHORTEST_PAUSE_SECONDS = 0.25
LOOK_SECONDS = 5.0
HEARTBEAT_SECONDS = 25.0
"""A comment line, so that a page that has gone away is noticed and no proxy takes the stream for dead."""

log = logging.getLogger("eval_protocol.ui")


class Live:
    """Wakes the open streams. `start` and `close` it with the server."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ear: Ear | None = None
        self._woken = asyncio.Event()
        self._look: asyncio.Task[None] | None = None
        self._closing = False
        self._told: dict[str, int] = {}
        """Rollout with lines that are in no store -> the number of the latest word about it."""
        self._words = 0
        self.streams = 0
        """Open pages."""

    def start(self) -> None:
        """Listen."""
        self._ear = Ear(self._reader.path)
        asyncio.get_running_loop().add_reader(self._ear.socket.fileno(), self._heard)
        self._look = asyncio.create_task(self._look_at_processes())

    async def close(self) -> None:
        """End the streams and stop listening."""
        self._closing = True
        self._wake()
        if self._look is not None:
            self._look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._look
        if self._ear is not None:
            asyncio.get_running_loop().remove_reader(self._ear.socket.fileno())
            self._ear.close()

    def tell(self, rollout_id: str) -> None:
        """There are new lines of a rollout, elsewhere than in the store."""
        self._words += 1
        self._told[rollout_id] = self._words
        self._wake()

    def _heard(self) -> None:
        assert self._ear is not None
        self._ear.drain()
        self._wake()

    def _wake(self) -> None:
        """All that wait now go on; who comes later waits for the next word."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def _look_at_processes(self) -> None:
        while True:
            woken = self._woken
            try:
                if await self._reader.write(abort_lost):
                    with contextlib.closing(Caller(self._reader.path)) as caller:
                        caller.call()
                running = await self._reader.run(running_processes)
            except EvalProtocolError as error:
                log.warning("%s", error)
                running = []
            if running:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await woken.wait()
                await asyncio.sleep(SHORTEST_PAUSE_SECONDS)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/watch`: `rows` and `logs` events until the page goes. With a `Last-Event-ID`, from there on."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        place = Place.read(request.headers.get("Last-Event-ID")) or await self._reader.run(changes.now)
        await response.prepare(request)
        told = self._words
        self.streams += 1
        try:
            await response.write(f"retry: 1000\nid: {place}\n\n: ready\n\n".encode())
            while not self._closing:
                woken = self._woken
                found = await self._reader.run(changes.since, place)
                elsewhere, told = [name for name, word in self._told.items() if word > told], self._words
                if found or elsewhere:
                    place = found.place
                    await response.write(await self._events(found, elsewhere))
                    await asyncio.sleep(SHORTEST_PAUSE_SECONDS)
                    continue
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await woken.wait()
                except TimeoutError:
                    await response.write(b": still here\n\n")
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self.streams -= 1
        return response

    async def _events(self, found: Changes, elsewhere: list[str]) -> bytes:
        text = ""
        if found.rollout_ids:
            total = await self._reader.run(count)
            text += _event("rows", {"rolloutIds": found.rollout_ids, "total": total}, found.place)
        if logged := list(dict.fromkeys([*found.logged, *elsewhere])):
            text += _event("logs", {"rolloutIds": logged}, found.place)
        return text.encode()


def _event(name: str, data: dict[str, Any], place: Place) -> str:
    return f"event: {name}\nid: {place}\ndata: {json.dumps(data)}\n\n"
