"""The supervisor: keeps web and worker up, starts engines when they are asked for, and answers on `supervisor.sock`.

A child that ends is started again, after half a second at first and up to half a minute when it keeps failing (`delay_after`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tunesmith.cli.engines import Engines
from tunesmith.errors import Unavailable
from tunesmith.launch import Process, start
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_STABLE_SECONDS = 60.0
"""A child that ran this long is forgiven its earlier failures."""
_STOP_GRACE_SECONDS = 8.0
_LONGEST_LOG = 32 * 1024 * 1024


def delay_after(before: float, ran: float) -> float:
    """Seconds until a child that has ended is started again.

    Args:
        before: the delay of its last start; 0: there was none.
        ran: seconds that it ran since.
    """
    if before == 0 or ran > _STABLE_SECONDS:
        return _FIRST_DELAY
    return min(2 * before, _LONGEST_DELAY)


class Supervisor:
    """Runs the platform's processes. All methods in one event loop, in the main thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started = time.time()
        self.engines = Engines(settings, self._environment(), self.note_processes)
        self._children: dict[str, Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, *, patience: float = 120.0) -> None:
        """Start web and worker and wait until the web process answers.

        Raises Unavailable with the end of the log when it does not.
        """
        for name, module in (("web", "tunesmith.server"), ("worker", "tunesmith.jobs")):
            self._start(name, module)
        await self._wait_for_health(patience)
        for name, module in (("web", "tunesmith.server"), ("worker", "tunesmith.jobs")):
            self._keepers.append(asyncio.create_task(self._keep(name, module)))

    async def stop(self) -> None:
        """Stop everything, all at once."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # Together: the web process may still answer the worker's last calls while that one winds up.
        await asyncio.gather(
            *(child.stop(_STOP_GRACE_SECONDS) for child in self._children.values()), self.engines.stop()
        )
        self._file.unlink(missing_ok=True)

    def processes(self) -> list[dict[str, Any]]:
        """`[{"name", "pid", "started"}]` of the supervisor and its running children; of engines also `url`, once they have answered."""
        children = [child for child in [*self._children.values(), *self.engines.processes()] if child.running]
        urls = self.engines.urls()
        found: list[dict[str, Any]] = [{"name": "supervisor", "pid": os.getpid(), "started": self.started}]
        for child in children:
            address = {"url": urls[child.pid]} if child.pid in urls else {}
            found.append({"name": child.name, "pid": child.pid, "started": child.started, **address})
        return found

    def note_processes(self) -> None:
        """Write `supervisor.json`."""
        named = [{"name": process["name"], "pid": process["pid"]} for process in self.processes()]
        content = json.dumps({"pid": os.getpid(), "port": self.settings.port, "processes": named}, indent=2)
        try:
            write_atomic(self._file, content)
        except OSError as error:  # for people to read; no process may stay down for want of it
            log.warning("%s cannot be written: %s", self._file, error.strerror)

    @property
    def _file(self) -> Path:
        return self.settings.path("supervisor.json")

    def _environment(self) -> Mapping[str, str]:
        """Our own, with the flags that were given to us, so that every child reads the same settings."""
        own = {"TUNESMITH_DATA_DIR": str(self.settings.data_dir), "TUNESMITH_HOST": self.settings.host}
        return {**os.environ, **own, "TUNESMITH_PORT": str(self.settings.port), "PYTHONUNBUFFERED": "1"}

    def _start(self, name: str, module: str) -> Process:
        log_path = self.settings.path("logs", f"{name}.log")
        if log_path.exists() and log_path.stat().st_size > _LONGEST_LOG:
            log_path.replace(log_path.with_suffix(".log.1"))
        argv = [sys.executable, "-m", module, "--data-dir", self.settings.data_dir]
        self._children[name] = start(argv, name=name, log_path=log_path, env=self._environment())
        self.note_processes()
        return self._children[name]

    async def _keep(self, name: str, module: str) -> None:
        delay = 0.0
        begun = time.monotonic()
        while True:
            child = self._children[name]
            code = await child.wait()
            delay = delay_after(delay, time.monotonic() - begun)
            log.warning("%s (pid %d) ended with status %d; starting it again in %.1f s", name, child.pid, code, delay)
            await asyncio.sleep(delay)
            while True:
                try:
                    self._start(name, module)
                    break
                except (OSError, Unavailable) as error:  # a full disk, no memory or process to be had: it may pass
                    log.warning("%s cannot be started; trying again in %.1f s: %s", name, _LONGEST_DELAY, error)
                    await asyncio.sleep(_LONGEST_DELAY)
            begun = time.monotonic()

    async def _wait_for_health(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while time.monotonic() < deadline:
                for child in self._children.values():
                    if not child.running:
                        raise Unavailable(
                            f"The {child.name} process ended with status {child.returncode}:\n{child.log_tail()}"
                        )
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.settings.base_url}/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise Unavailable(
            f"The web process does not answer at {self.settings.base_url}/health after {patience:.0f} seconds; "
            f"see {self.settings.path('logs', 'web.log')}."
        )
