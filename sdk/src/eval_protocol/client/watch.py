"""Follow a job to its end: a view of it each time something changed.

Server-sent events wake the reader where the platform offers them; without them the job is read every two seconds. The
views themselves always come from the job and its metrics, so that a lost event loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from eval_protocol.client.control_plane import ControlPlane
from eval_protocol.client.errors import PlatformError, Refused, Unreachable
from eval_protocol.client.wire import Job, JobMetrics

POLL_SECONDS = 2.0
SAFETY_POLL_SECONDS = 10.0
"""How often the job is read although the event stream is open: a missed event costs at most this."""
SHORTEST_PAUSE_SECONDS = 2.0
"""Between two looks at a job that goes on: its events come every second, and each look reads all of its metrics."""
GIVE_UP_AFTER_SECONDS = 600.0
"""A platform that stays away for longer than this is given up on; the job itself goes on."""


@dataclass(frozen=True)
class JobView:
    """A job and its events at one moment; `trouble` says why the platform could not be asked just now."""

    job: Job
    metrics: JobMetrics
    trouble: str = ""


async def watch(platform: ControlPlane, job: Job) -> AsyncIterator[JobView]:
    """Yield a view now and after each change, the last one with a final state.

    Raises Refused when the job is gone or the key no longer valid, Unreachable after ten minutes of silence.
    """
    bell = asyncio.Event()
    listener = _Listener(platform, job.id, bell)
    task = asyncio.create_task(listener.run())
    last = JobView(job, JobMetrics())
    silent_since: float | None = None
    try:
        while True:
            bell.clear()
            try:
                view = JobView(await platform.get_job(job.id), await platform.job_metrics(job.id))
                silent_since = None
            except Refused as error:
                if error.status < 500:
                    raise
                view = JobView(last.job, last.metrics, error.reason)
            except Unreachable as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > GIVE_UP_AFTER_SECONDS:
                    raise
                view = JobView(last.job, last.metrics, str(error))
            if view != last or view.job.is_final:
                yield view
            last = view
            if view.job.is_final:
                return
            if listener.is_open:
                await _wait(listener.over, SHORTEST_PAUSE_SECONDS)
                listener.over.clear()
            await _wait(bell, SAFETY_POLL_SECONDS if listener.is_open else POLL_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class _Listener:
    """Reads the event stream in the background and rings the bell; reconnects, and gives up where there is no such route."""

    def __init__(self, platform: ControlPlane, job_id: str, bell: asyncio.Event) -> None:
        self._platform, self._job_id, self._bell = platform, job_id, bell
        self.is_open = False
        self.over = asyncio.Event()
        """The stream ended, as it does with the job."""

    async def run(self) -> None:
        last_id, pause = "", 1.0
        while True:
            try:
                async for event_id in self._platform.job_events(self._job_id, last_id):
                    self.is_open, pause = True, 1.0
                    last_id = event_id or last_id
                    self._bell.set()
                self.over.set()
            except Refused as error:
                if error.status < 500:
                    return
            except PlatformError:
                pass  # the connection broke: polling goes on, and so do we after a pause
            finally:
                self.is_open = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 15.0)
