"""The main process: a single-threaded fork server.

It holds the imported module and does nothing but fork the loop, fork scorers when the loop asks, kill them, and tell the loop how they
ended. It has no threads and no event loop, so a fork here is always safe, and a new scorer costs milliseconds.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import random
import selectors
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

from eval_protocol.host.confine import adopt_orphans, children, confine_scorer, protect_host
from eval_protocol.host.scratch import Scratch

PR_SET_PDEATHSIG = 1
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
        self._stopping = False

    def run(self) -> int:
        """Serve. Returns the exit code for the whole host."""
        self._selector = selectors.DefaultSelector()
        self._parent = _watch_parent()
        protect_host()
        adopt_orphans()
        self._wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_write = wakeup_write
        self._control, loop_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _warn_of_threads()
        gc.collect()
        gc.freeze()  # what was imported is never collected, so its pages stay shared
        self._loop = self._fork(lambda: self._loop_main(loop_end))
        loop_end.close()
        for descriptor in self._of_loop:
            os.close(descriptor)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        watched = [self._wakeup, self._control.fileno()] + ([self._parent] if self._parent is not None else [])
        for descriptor in watched:
            self._selector.register(descriptor, selectors.EVENT_READ)
        try:
            return self._serve()
        finally:
            for pid in self._scorers:
                _kill_group(pid)

    def _serve(self) -> int:
        while True:
            ready = {key.fd for key, _ in self._selector.select()}
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
            if self._parent in ready:
                _kill_group(self._loop)
                return 1
            self._reap_scorers()
            code = self._loop_ended()
            if code is not None:
                return code
            if self._stopping:
                return self._stop()
            if self._control.fileno() in ready and not self._obey():
                self._selector.unregister(self._control.fileno())

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _stop(self) -> int:
        """Let the loop clean up, then end."""
        os.kill(self._loop, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        self._selector.unregister(self._control.fileno())
        while (code := self._loop_ended()) is None:
            self._selector.select(max(0.0, deadline - time.monotonic()))
            with suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
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
            message = self._control.recv(CONTROL_BYTES)
        except ConnectionError:
            return False
        if not message:
            return False
        request = json.loads(message)
        if request["op"] == "spawn":
            self._spawn(request["id"])
        else:
            for pid, number in self._scorers.items():
                if number == request["id"]:
                    _kill_group(pid)
        return True

    def _spawn(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:

            def scorer() -> int:
                ours.close()
                confine_scorer()
                self._scratch.enter(number)
                self._scorer_main(theirs)
                return 0

            try:
                pid = self._fork(scorer)
            except OSError as error:
                self._tell({"op": "failed", "id": number, "message": f"fork failed: {error}"})
                return
            self._scorers[pid] = number
            self._tell({"op": "spawned", "id": number, "pid": pid}, [ours.fileno()])

    def _reap_scorers(self) -> None:
        for pid, number in list(self._scorers.items()):
            # Looked at before it is reaped: until then its process group cannot be anyone else's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                _kill_group(pid)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                del self._scorers[pid]
                self._scratch.leave(number, set(self._scorers.values()))
                self._tell({"op": "ended", "id": number, "how": _ending(code)})
        self._end_strays()

    def _end_strays(self) -> None:
        """Kill what scorers left behind: once they are gone it is ours. What dies wakes us, and we look again."""
        for pid in children():
            if pid != self._loop and pid not in self._scorers:
                _kill_group(pid)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _tell(self, message: dict[str, object], descriptors: list[int] | None = None) -> None:
        with suppress(ConnectionError):  # the loop has gone; its end is seen in _loop_ended
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors or [])

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
            die_with_parent(main)
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
        """Close what belongs to the main process, and give the child its own signals and randomness."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.close()
        self._control.close()
        for descriptor in (self._wakeup, self._wakeup_write, self._parent):
            if descriptor is not None:
                os.close(descriptor)
        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


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
