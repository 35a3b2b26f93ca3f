"""What keeps a scorer to itself: it cannot signal, look into or outlive the other processes of its host.

A scorer runs code that may come from a model's answer. With Landlock (its scope of signals, Linux 6.12 on) it may signal and trace only
what it started itself. Everywhere, the host's own processes cannot be read or traced by it, and what it leaves behind is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from pathlib import Path

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 36, 38
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same number on every architecture
_VERSION_FLAG = 1
_ABI_WITH_SCOPES = 6
_SCOPES = 1 | 2  # abstract unix sockets, signals
_FIRST_TO_DIE = "1000"


def protect_host() -> None:
    """For the main process and the loop: no other process of this user may trace them or read their memory and environment."""
    _libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Have what our descendants leave behind become our children, so that it can be found and ended."""
    _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def confine_scorer() -> bool:
    """For a scorer, before it sees a row. Returns whether signals are confined, too."""
    adopt_orphans()
    confined = _confine_signals()
    _libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # its own /proc/self is its own again
    with contextlib.suppress(OSError):  # out of memory, a scorer goes before the host
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE)
    if not confined:
        protect_host()  # no Landlock keeps the other scorers away
    return confined


def _confine_signals() -> bool:
    libc = _libc()
    if libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)) < _ABI_WITH_SCOPES:
        return False
    attributes = struct.pack("=QQQ", 0, 0, _SCOPES)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def children() -> list[int]:
    """Processes whose parent is this one's main thread."""
    me = os.getpid()
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    return []


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
