"""A child process of ours: its log, its group, its end.

The kernel kills a child when the *thread* that started it ends, so `start` insists on the main thread, where the event loop runs.
Waiting uses a pidfd in the event loop: no threads, no polling. When a child ends, whatever is left of its process group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import Unavailable
from tunesmith.launch.logs import keep_short

_SHIM = Path(__file__).with_name("child.py")


@dataclass(eq=False)
class Process:
    """A started child. `returncode` is None while it runs; negative = the signal that ended it."""

    name: str
    argv: list[str]
    pid: int
    started: float
    log_path: Path | None
    _popen: subprocess.Popen[bytes] = field(repr=False)
    _own_group: bool = field(repr=False)
    _peak_rss: int = field(default=0, repr=False)
    _log_keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def returncode(self) -> int | None:
        """Exit status, reaped if the child has ended."""
        return self._reap() if self._popen.returncode is None else self._popen.returncode

    @property
    def running(self) -> bool:
        """True until the child has ended."""
        return self.returncode is None

    async def wait(self) -> int:
        """Wait for the end and return the exit status. Several tasks may wait; a cancelled wait leaves the child running."""
        while (code := self.returncode) is None:
            await _pidfd_readable(self.pid)
        return code

    async def stop(self, grace: float = 5.0) -> int:
        """SIGTERM to the whole group, SIGKILL after `grace` seconds. Harmless when the child has ended."""
        self.peak_rss()
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the child (to its group, when it has its own) if it still runs."""
        if self.returncode is None:
            (os.killpg if self._own_group else os.kill)(self.pid, number)

    def peak_rss(self) -> int:
        """Largest resident memory so far, in bytes: the peaks (`VmHWM`) of the child and its descendants, added up.

        Pages that forked processes share count once for each, so this is an upper bound. Of an ended child the last value read.
        """
        self._peak_rss = max(self._peak_rss, sum(_memory(pid, "VmHWM:") for pid in _tree(self.pid)))
        return self._peak_rss

    def resident(self) -> int:
        """Resident memory of the child and its descendants now, in bytes. Shared pages count once for each."""
        return sum(_memory(pid, "VmRSS:") for pid in _tree(self.pid))

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log, for a message that says why it ended."""
        if self.log_path is None or not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def _reap(self) -> int | None:
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        if self._own_group:  # before reaping, while the number cannot be anyone else's
            os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()


def start(
    argv: Sequence[str | Path],
    *,
    name: str,
    log_path: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    own_group: bool = True,
) -> Process:
    """Start `argv` as a child that dies with this process.

    Args:
        argv: Program and arguments; the program is looked up in PATH.
        name: What logs and `GET /processes` call it.
        log_path: Standard output and error are appended here (parents made), its middle left out above 32 MiB; None = inherited.
        env: The whole environment of the child; None = ours.
        cwd: Working directory; None = ours.
        own_group: Its own session, so that stopping it stops its descendants and Ctrl-C reaches only us.

    Raises:
        Unavailable: the process could not be started at all (a program that is missing shows as exit status 127).
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("start() must be called in the main thread: a child dies with the thread that started it")
    words = [str(word) for word in argv]
    shim = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), "--", *words]
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
    output = open(log_path, "ab") if log_path is not None else None  # noqa: SIM115 - closed below
    try:
        popen = subprocess.Popen(
            shim,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=own_group,
        )
    except OSError as error:
        raise Unavailable(f"Could not start {name} ({words[0]}): {error}") from error
    finally:
        if output is not None:
            output.close()
    process = Process(name, words, popen.pid, time.time(), log_path, popen, own_group)
    with contextlib.suppress(RuntimeError):  # without an event loop nobody watches; the log then grows as it will
        loop = asyncio.get_running_loop()
        if log_path is not None:
            process._log_keeper = loop.create_task(keep_short(log_path, lambda: process.running))
    return process


async def run(
    argv: Sequence[str | Path],
    *,
    name: str,
    timeout: float,
    log_path: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Run to the end and return the exit status. Raises TimeoutError after `timeout` seconds; stopped when cancelled."""
    process = start(argv, name=name, log_path=log_path, env=env, cwd=cwd)
    try:
        return await asyncio.wait_for(process.wait(), timeout)
    finally:
        if process.running:
            await process.stop(grace=1.0)


async def _pidfd_readable(pid: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = loop.create_future()
    loop.add_reader(handle, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _tree(pid: int) -> list[int]:
    """A process and its descendants, as far as they are there."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                waiting += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _memory(pid: int, field: str) -> int:
    """A field of `/proc/{pid}/status` in bytes; 0 for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field)), 0)
