"""The process that resvg runs in: one drawing at a time from standard input, its PNG to standard output.

A drawing that was looked at (`guard.py`) may still crash a renderer or make it run without end. This process has limits on memory
and processor time, and nobody minds if it dies: `render.py` starts another one. It imports nothing but resvg.
"""

import ctypes
import json
import resource
import signal
import sys
import threading

import resvg_py

STACK_BYTES = 64 * 1024 * 1024
"""Rendering recurses by element."""
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer until standard input ends. Arguments: memory in bytes, processor seconds a drawing."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_serve, args=(seconds,))
    thread.start()
    thread.join()


def _serve(seconds: int) -> None:
    for line in sys.stdin.buffer:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        # Counted from now: the kernel ends a drawing without end even when nobody waits for it any more.
        limit = int(usage.ru_utime + usage.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            png, reason = bytes(resvg_py.svg_to_bytes(**json.loads(line))), None
        except (ValueError, RuntimeError) as error:
            png, reason = b"", str(error)
        sys.stdout.buffer.write(json.dumps({"bytes": len(png), "reason": reason}).encode() + b"\n" + png)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
