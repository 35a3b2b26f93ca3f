"""A control group for each evaluator host: what all of its processes together may use, and a way to end every one of them.

Limits of a process (`prlimit`) do not stop a fork bomb of root, nor many processes that each stay below their limit. Version 1 (one
hierarchy a controller) and version 2 (one for all). Version 2 has not been run: no machine with it was at hand.
Stdlib only; runs in the guard (`guard.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "tunesmith-"
_CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class Bounds:
    """Of all processes of a host together."""

    memory_bytes: int
    processes: int
    cpu_weight: int = 50
    """Share of a contended processor, in percent of what a process outside has."""


@dataclass(frozen=True)
class Group:
    """One host's group: a folder for each controller (version 1), or one (version 2)."""

    folders: list[Path] = field(default_factory=list)

    def join(self) -> None:
        """Move this process in; its children follow. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def end(self) -> None:
        """Kill what is left in it and remove it. A process that is still dying leaves the empty folder to `sweep`."""
        for _ in range(50):
            members = {pid for folder in self.folders for pid in _members(folder)}
            for pid in members:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not members:
                break
            time.sleep(0.01)
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def make(name: str, bounds: Bounds) -> Group | None:
    """A new group with its bounds set; None where this process may not make one. The name ends in this process's id."""
    made: list[Path] = []
    try:
        for parent, files in _plans(bounds):
            folder = parent / f"{PREFIX}{name}-{os.getpid()}"
            folder.mkdir(exist_ok=True)
            made.append(folder)
            for file, value in files.items():
                (folder / file).write_text(value)
    except OSError:
        Group(made).end()
        return None
    return Group(made) if made else None


def available() -> bool:
    """Whether groups can be made here."""
    group = make("probe", Bounds(1 << 30, 64))
    if group is None:
        return False
    group.end()
    return True


def sweep() -> None:
    """Remove the empty groups of guards that were killed."""
    for parent, _ in _plans(Bounds(0, 0)):
        for folder in parent.glob(f"{PREFIX}*"):
            maker = folder.name.rpartition("-")[2]
            if maker.isdigit() and not Path(f"/proc/{maker}").exists():  # one that lives may be about to fill it
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _plans(bounds: Bounds) -> list[tuple[Path, dict[str, str]]]:
    """(parent folder, what to write) for each hierarchy. Empty where there is none to write to."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    if (ROOT / "cgroup.controllers").exists():
        return _unified(ROOT / paths.get("", "/").lstrip("/"), bounds)
    files = {
        "memory": {"memory.limit_in_bytes": str(bounds.memory_bytes)},
        "pids": {"pids.max": str(bounds.processes)},
        "cpu": {"cpu.shares": str(max(2, 1024 * bounds.cpu_weight // 100))},
    }
    found = []
    for controller in _CONTROLLERS:
        folder = ROOT / controller / paths.get(controller, "/").lstrip("/")
        if not folder.is_dir():  # inside a container the path may be that of the machine outside
            folder = ROOT / controller
        if folder.is_dir():
            found.append((folder, files[controller]))
    return found if len(found) == len(_CONTROLLERS) else []


def _unified(own: Path, bounds: Bounds) -> list[tuple[Path, dict[str, str]]]:
    """Version 2: beside our own group, since one with processes hands no controllers to its children."""
    parent = own if own == ROOT else own.parent
    if not own.is_dir():
        parent = ROOT
    with contextlib.suppress(OSError):
        (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    files = {
        "memory.max": str(bounds.memory_bytes),
        "pids.max": str(bounds.processes),
        "cpu.weight": str(max(1, bounds.cpu_weight)),
    }
    return [(parent, files)]


def _members(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    return []
