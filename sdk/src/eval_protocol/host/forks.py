"""The main process: a single-threaded fork server.

It holds the imported module and does nothing but fork the loop, fork scorers when the loop asks, kill them, and tell the loop how they
ended. It has no threads and no event loop, so a fork here is always safe, and a new scorer costs milliseconds.

Nearly all of that is memory: after a fork, each page that either side writes to is copied (some 3 µs), and a page that is only mapped
is entered and cleared again for each child (0.2 µs). So what runs here between two forks is little code that touches few objects.

The loop asks with `NEW OLD`, numbers of its own (0: none), and NEW's end of a socket: fork NEW, kill OLD. It hears `ended N HOW` of those
that end by themselves, and `failed N WHY` of those that cannot be forked.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports] - `signal.signal` looks up a name for each handler: 50 pages
import gc
import math
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from eval_protocol.host.confine import Children, adopt_orphans, confine_scorer, end_with_parent, protect_host
from eval_protocol.host.pages import enlarge
from eval_protocol.host.scratch import Scratch

STOP_SECONDS = 3.0
"""How long the loop may take to clean up after SIGTERM."""
CONTROL_BYTES = 4096
"""Longest message between main process and loop."""

LoopMain = Callable[[socket.socket], int]
ScorerMain = Callable[[socket.socket], None]


class ForkServer:
    """Forks and reaps until the loop ends, a signal comes or its parent dies.

    Args:
        loop_main: runs in the loop process, with its end of the control socket; returns the exit code.
        scorer_main: runs in each scorer, with its end of the scorer's socket.
        of_loop: descriptors that are the loop's alone; this process and scorers close them.
        scratch: folders for temporary files that are this host's alone.
    """

    def __init__(
        self, loop_main: LoopMain, scorer_main: ScorerMain, of_loop: Sequence[int] = (), scratch: Sequence[Path] = ()
    ) -> None:
        self._scratch = Scratch(scratch)
        self._loop_main = loop_main
        self._scorer_main = scorer_main
        self._of_loop = of_loop
        self._scorers: dict[int, int] = {}
        """pid -> the loop's number for it"""
        self._dismissed: set[int] = set()
        """Those of them that the loop had killed: it does not wait for word of them."""
        self._stopping = False

    def run(self) -> int:
        """Serve. Returns the exit code for the whole host."""
        self._poll = select.poll()
        self._parent = _watch_parent()
        self._children = Children()
        protect_host()
        adopt_orphans()
        self._wakeup, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._control, loop_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _warn_of_threads()
        gc.collect()
        gc.freeze()  # what was imported is never collected, so its pages stay shared
        enlarge()
        self._loop = self._fork(lambda: self._loop_main(loop_end))
        loop_end.close()
        for descriptor in self._of_loop:
            os.close(descriptor)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for descriptor in (self._wakeup, self._control.fileno(), self._parent):
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)
        try:
            return self._serve()
        finally:
            for pid in self._scorers:
                _kill_group(pid)

    def _serve(self) -> int:
        control = self._control.fileno()
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            if self._parent in ready:
                _kill_group(self._loop)
                return 1
            if self._wakeup in ready:
                self._drain()
            if control in ready and not self._obey():
                self._poll.unregister(control)
            code = self._reap()
            if code is not None:
                return code
            if self._stopping:
                return self._stop()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _stop(self) -> int:
        """Let the loop clean up, then end."""
        os.kill(self._loop, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        with suppress(KeyError):  # the loop had closed its end already
            self._poll.unregister(self._control.fileno())
        while (code := self._loop_ended()) is None:
            left = deadline - time.monotonic()
            self._poll.poll(max(0.0, left) * 1000 if left < math.inf else None)
            self._drain()
            if time.monotonic() >= deadline:
                _kill_group(self._loop)
                deadline = math.inf
        return max(code, 0)

    def _loop_ended(self) -> int | None:
        """The loop's exit code once it has ended. A signal counts as 1, unless we are stopping anyway."""
        if os.waitid(os.P_PID, self._loop, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_group(self._loop)
        code = os.waitstatus_to_exitcode(os.waitpid(self._loop, 0)[1])
        if code != 0 and not self._stopping:
            print(f"The evaluator host's event loop ended: {_ending(code)}.", file=sys.stderr, flush=True)
        return code if code >= 0 else int(not self._stopping)

    def _obey(self) -> bool:
        """One request of the loop. False once the loop has closed its end."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, CONTROL_BYTES, 1)
        except ConnectionError:
            return False
        if not message:
            return False
        number, old = map(int, message.split())
        for pid, each in self._scorers.items():
            if each == old:
                self._dismissed.add(pid)
                _kill_group(pid)
        if number:
            self._spawn(number, descriptors)
        return True

    def _spawn(self, number: int, descriptors: list[int]) -> None:
        def scorer() -> int:
            confine_scorer()
            self._scratch.enter(number)
            self._scorer_main(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptors[0]))
            return 0

        try:
            if not descriptors:
                raise OSError("too many files are open")  # the kernel keeps back what does not fit
            self._scorers[self._fork(scorer)] = number
        except OSError as error:
            self._tell(f"failed {number} fork failed: {error}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _reap(self) -> int | None:
        """Bury what has died. Returns the host's exit code once the loop has."""
        died = False
        # Looked at before it is reaped: until then its process group cannot be anyone else's.
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            pid = found.si_pid
            if pid == self._loop:
                return self._loop_ended()
            died = True
            _kill_group(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if (number := self._scorers.pop(pid, None)) is not None:
                self._scratch.leave(number, self._scorers.values())
                if pid in self._dismissed:
                    self._dismissed.remove(pid)
                else:
                    self._tell(f"ended {number} {_ending(code)}")
        if died:
            self._end_strays()
        return None

    def _end_strays(self) -> None:
        """Kill what scorers left behind: once they are gone it is ours. What dies wakes us, and we look again."""
        for pid in self._children.pids():
            if pid != self._loop and pid not in self._scorers:
                _kill_group(pid)

    def _tell(self, message: str) -> None:
        with suppress(ConnectionError):  # the loop has gone; its end is seen in _loop_ended
            self._control.send(message.encode()[:CONTROL_BYTES])

    def _fork(self, body: Callable[[], int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        main = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child(body, main)
        with suppress(OSError):  # the child does it, too; whoever comes first
            os.setpgid(pid, pid)
        return pid

    def _child(self, body: Callable[[], int], main: int) -> NoReturn:
        code = 1
        try:
            end_with_parent(main)
            with suppress(OSError):
                os.setpgid(0, 0)
            self._forget_main()
            code = body()
        except BaseException:  # noqa: BLE001 - nothing may unwind into the fork server's own frames
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _forget_main(self) -> None:
        """Close what belongs to the main process, and give the child its own signals and randomness (`random` sees to itself)."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(signal.SIGINT, _signal.SIG_IGN)
        os.close(self._control.detach())
        self._children.close()
        for descriptor in (self._wakeup, self._wakeup_write, self._parent):
            if descriptor is not None:
                os.close(descriptor)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()


def _watch_parent() -> int | None:
    """A descriptor that becomes readable when our parent dies. None where there is none to watch (init, another pid namespace).

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, which need not be the end of the process.
    """
    parent = os.getppid()
    if parent <= 1:
        return None
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return None
    if os.getppid() != parent:
        os._exit(1)
    return descriptor


def _warn_of_threads() -> None:
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        print(
            f"Warning: the evaluator's module started threads on import ({', '.join(others)}). They do not exist in the processes "
            "that score rows; start them in the function instead.",
            file=sys.stderr,
            flush=True,
        )


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
