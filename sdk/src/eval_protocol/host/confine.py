"""What keeps a scorer to itself: it cannot signal, look into or outlive the other processes of its host.

A scorer runs code that may come from a model's answer. With Landlock (its scope of signals, Linux 6.12 on) it may signal and trace only
what it started itself. Everywhere, the host's own processes cannot be read or traced by it, and what it leaves behind is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
from functools import cache

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same number on every architecture
_VERSION_FLAG = 1
_ABI_WITH_SCOPES = 6
_SCOPES = 1 | 2  # abstract unix sockets, signals
_FIRST_TO_DIE = b"1000"
_CHILDREN_BYTES = 1 << 16


def protect_host() -> None:
    """For the main process and the loop: no other process of this user may trace them or read their memory and environment."""
    _scopes()  # found out once, for all scorers
    _libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Have what our descendants leave behind become our children, so that it can be found and ended."""
    _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit if that has happened already."""
    _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def confine_scorer() -> bool:
    """For a scorer, before it sees a row. Returns whether signals are confined, too."""
    adopt_orphans()
    confined = _confine_signals()
    _libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # its own /proc/self is its own again
    with contextlib.suppress(OSError):  # out of memory, a scorer goes before the host
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(descriptor, _FIRST_TO_DIE)
        finally:
            os.close(descriptor)
    if not confined:
        protect_host()  # no Landlock keeps the other scorers away
    return confined


def _confine_signals() -> bool:
    attributes, size, flags = _scopes()
    if attributes is None:
        return False
    syscall = _libc().syscall
    ruleset = syscall(_CREATE_RULESET, attributes, size, flags)
    if ruleset < 0:
        return False
    try:
        _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return syscall(_RESTRICT_SELF, ruleset, flags) == 0
    finally:
        os.close(ruleset)


@cache
def _scopes() -> tuple[bytes | None, ctypes.c_size_t, ctypes.c_uint32]:
    """A ruleset's attributes, their size and flags; no attributes where the kernel knows no scopes."""
    size, flags = ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)
    if _libc().syscall(_CREATE_RULESET, None, size, flags) < _ABI_WITH_SCOPES:
        return None, size, flags
    attributes = struct.pack("=QQQ", 0, 0, _SCOPES)
    return attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)


class Children:
    """Processes whose parent is this one's main thread."""

    def __init__(self) -> None:
        me = os.getpid()
        self._file: int | None = None
        with contextlib.suppress(OSError):  # the kernel keeps no such list
            self._file = os.open(f"/proc/{me}/task/{me}/children", os.O_RDONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Those of this moment."""
        pieces: list[bytes] = []
        if self._file is not None:
            with contextlib.suppress(OSError):
                while piece := os.pread(self._file, _CHILDREN_BYTES, sum(map(len, pieces))):
                    pieces.append(piece)
        return [int(pid) for pid in b"".join(pieces).split()]

    def close(self) -> None:
        """In a child of this process, which has children of its own."""
        if self._file is not None:
            os.close(self._file)


@cache
def _libc() -> ctypes.CDLL:
    """One for all: what it has looked up, children of this process need not look up again."""
    return ctypes.CDLL(None, use_errno=True)
