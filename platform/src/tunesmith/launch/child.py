"""Exec shim: ask the kernel to kill this process when its parent dies, then become the real program.

`python -I -S child.py PARENT_PID -- argv...`. Setting the death signal here, after the exec, keeps the parent free of a
`preexec_fn`, which is unsafe beside threads. It runs without site-packages, so that it costs milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and exec. Exits 127 when the program is not there, 125 when the parent is gone already."""
    parent, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        sys.exit("usage: child.py PARENT_PID -- argv...")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit(125)  # it died before the signal was set
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
