"""The processes of a running RFT job: evaluator host, learner, orchestrator. They are kept up until the run has ended.

There is one host, that of the evaluator version in force; while another version takes over there are two.

A process that a signal ended (out of memory, kill -9) is started again and goes on from the run directory; one that ended with
an error of its own ends the job with the cause. One that met a full disk says so by its exit status: the job is put back and goes on
when there is room.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.disk import NO_ROOM_EXIT, advice
from tunesmith.errors import FailedPrecondition, Internal, NoRoom
from tunesmith.evaluators.hosts import EvaluatorHost
from tunesmith.launch import Process
from tunesmith.runs.files import SETTLED_NANOSECONDS, file_mark

MOST_RESTARTS = 5
"""A process that dies more often than this, without the run moving on between, ends the job."""
FINAL = {"COMPLETED", "EARLY_STOPPED", "FAILED", "CANCELLED"}
STOP_GRACE_SECONDS = 5.0
MEMORY_SECONDS = 2.0
"""How often the memory of all processes is added up: the kernel keeps the peaks, and reading them costs more than all else here."""
Place = tuple[int, int, int]
"""Percent of the chunks, batches sealed, versions published."""


@dataclass
class RunProcesses:
    """Starts, watches, restarts and stops them. Use in the main thread (children die with the thread that starts them)."""

    run_dir: Path
    version: int
    """The evaluator version that the job was created with."""
    start_host: Callable[[int], Coroutine[Any, Any, EvaluatorHost]]
    """Starts the host of an evaluator version."""
    start: Callable[..., Process]
    """`JobContext.start`: argv and name."""
    hosts: dict[int, EvaluatorHost] = field(default_factory=dict)
    """By evaluator version."""
    learner: Process | None = None
    orchestrator: Process | None = None
    _restarts: dict[str, tuple[int, Place]] = field(default_factory=dict)
    """How often each died, and where the run was when it last did."""
    _peak: dict[str, int] = field(default_factory=dict)
    _next_look: float = 0.0
    _status: tuple[tuple[int, int, int] | None, dict[str, Any]] = (None, {})
    """`status.json` as it was last read, and by what it is seen to be another file."""

    async def up(self) -> None:
        """Bring up whatever is not running. Raises the cause when one of them cannot go on."""
        for version in {self.version_in_force(), *self.hosts}:
            host = self.hosts.get(version)
            if host is None or not host.process.running:
                if host is not None:
                    self._died("evaluator host", host.process, restart_on_error=True)
                self.hosts[version] = await self.start_host(version)
        if self.learner is None or (not self.learner.running and self.learner.returncode != 0):
            self._died("learner", self.learner)
            self.learner = self._start("learner", "tunesmith.training")
        if self.orchestrator is None or not self.orchestrator.running:
            self._died("orchestrator", self.orchestrator)
            self.orchestrator = self._start("orchestrator", "tunesmith.orchestrator")

    async def down(self) -> None:
        """Stop them all: the orchestrator first, so that nothing new is asked for."""
        self._next_look = 0.0
        self.report()
        running = [self.orchestrator, self.learner, *(host.process for host in self.hosts.values())]
        await asyncio.gather(*(p.stop(STOP_GRACE_SECONDS) for p in running if p is not None and p.running))

    def status(self) -> dict[str, Any]:
        """`status.json` of the run; empty before the orchestrator has written it."""
        path = self.run_dir / "status.json"
        mark = file_mark(path)
        if mark is None or mark != self._status[0]:
            settled = mark is not None and time.time_ns() - mark[2] > SETTLED_NANOSECONDS
            self._status = mark if settled else None, json.loads(path.read_text()) if mark else {}
        return self._status[1]

    def place(self) -> Place:
        """How far the run is: it has moved on when this has grown."""
        return place_of(self.status())

    def version_in_force(self) -> int:
        """The evaluator version that chunks are scored by, as the orchestrator says."""
        version = (self.status().get("control") or {}).get("evaluator_version")
        return version if isinstance(version, int) else self.version

    def paused(self) -> bool:
        """Whether the run waits for somebody to let it go on."""
        return bool((self.status().get("control") or {}).get("paused"))

    async def stop_hosts_but(self, versions: set[int]) -> None:
        """Stop the hosts that nothing uses any more."""
        for version in set(self.hosts) - versions:
            await self.hosts.pop(version).stop()

    def pids(self) -> list[int]:
        """Of all of them: another list means that one was started."""
        hosts = (host.process for host in self.hosts.values())
        return [process.pid for process in (self.learner, self.orchestrator, *hosts) if process is not None]

    def report(self) -> list[dict[str, Any]]:
        """Name, pid and peak resident memory (MiB) of each process."""
        in_force = self.version_in_force()
        processes: dict[str, Process | None] = {
            "evaluator host" if version == in_force else f"evaluator host of version {version}": host.process
            for version, host in sorted(self.hosts.items(), key=lambda item: item[0] != in_force)
        }
        processes |= {"learner": self.learner, "orchestrator": self.orchestrator}
        rows = []
        look = time.monotonic() > self._next_look
        for name, process in processes.items():
            if process is not None:
                if look or name not in self._peak:
                    self._peak[name] = max(self._peak.get(name, 0), process.peak_rss())
                rows.append({"name": name, "pid": process.pid, "peak_rss_mib": round(self._peak[name] / 2**20, 1)})
        self._next_look = time.monotonic() + MEMORY_SECONDS if look else self._next_look
        return rows

    def _start(self, name: str, module: str) -> Process:
        return self.start([sys.executable, "-m", module, str(self.run_dir)], name=name)

    def _died(self, name: str, process: Process | None, *, restart_on_error: bool = False) -> None:
        """Decide whether a process that ended may be started again. Raises with the end of its log when not."""
        if process is None or self.status().get("state") in FINAL:
            return
        code = process.returncode or 0
        if code == NO_ROOM_EXIT:
            raise NoRoom(advice("no space left", self.run_dir))
        if code > 0 and not restart_on_error:
            raise FailedPrecondition(f"The {name} ended with an error: {last_words(process)}")
        times, where = self._restarts.get(name, (0, None))
        here = self.place()
        times = times + 1 if here == where else 1
        self._restarts[name] = times, here
        if times > MOST_RESTARTS:
            raise Internal(
                f"The {name} died {times} times at step {here[1]}; the last time it said: {last_words(process)}"
            )


def place_of(status: dict[str, Any]) -> Place:
    """How far a run is by its `status.json`; zeros before there is one."""
    percent, step, optimizer_steps = (int(status.get(name) or 0) for name in ("percent", "step", "optimizer_steps"))
    return percent, step, optimizer_steps


def last_words(process: Process) -> str:
    """The last line that a process wrote."""
    lines = [line for line in process.log_tail(20).splitlines() if line.strip()]
    return lines[-1] if lines else f"nothing (exit status {process.returncode})"
