"""Who holds a lease: a worker's name tells whether it can still be alive.

`{place}/{pid}/{start time}`: place is a digest of host name, boot and process-id namespace. A worker on the same place whose
process is gone is dead for certain, so that its jobs need not wait for their leases to run out.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path


def own_name() -> str:
    """The name of this process as a lease owner."""
    return f"{_place()}/{os.getpid()}/{_start_time(os.getpid())}"


def is_dead(owner: str) -> bool:
    """True when the owner ran here and its process is gone; False when it lives, or ran elsewhere and nobody can tell."""
    place, _, rest = owner.partition("/")
    pid, _, started = rest.partition("/")
    return place == _place() and pid.isdigit() and _start_time(int(pid)) != started


def _place() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {boot} {namespace}".encode()).hexdigest()[:12]


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which a process started; "" when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
