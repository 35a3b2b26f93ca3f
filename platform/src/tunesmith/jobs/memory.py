"""What a training job needs in memory, and what this machine has: whether another job may begin. Nothing here reads a weight.

The estimate is of the peak of resident memory, in bytes, from config.json and the headers of the weights. It is what a job cannot do
without: the learner takes smaller micro-batches where memory is short, so activations are counted for one longest sequence, not for a full
micro-batch. Fixed parts are what the bundled models were seen to take (docs/guides/operate.md, "Memory").
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 2**20
LEARNER_BASE = 400 * MIB
"""Python, torch and what they map, before any weight."""
ENGINE_BASE = 350 * MIB
SMALL_PROCESSES = 250 * MIB
"""Evaluator host, its scorers, orchestrator."""
HEAD_CHUNK_BYTES = 3 * 4 * 2**24
"""Logits of one chunk of the head (2**24 of them, fp32), their gradient and a copy (`training/logprobs.py`)."""
FLOAT = 4
"""Bytes of a number: on the CPU everything is fp32."""
LORA_STATE = 4 * FLOAT
"""Of an adapter's parameter: itself, its gradient, two moments of AdamW."""
FULL_STATE = 3 * FLOAT
"""Gradient and moments of a parameter that is trained itself."""


@dataclass(frozen=True)
class Need:
    """An estimate by part, in bytes."""

    parts: dict[str, int]
    """In the order in which a message tells them."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def without(self, part: str) -> Need:
        """The same for a machine on which a part is there already."""
        return Need({name: size for name, size in self.parts.items() if name != part})

    def __str__(self) -> str:
        return (
            f"about {gib(self.total)} ({', '.join(f'{name} {gib(size)}' for name, size in self.parts.items() if size)})"
        )


def training_need(folder: Path, *, rank: int, sequence: int, on_gpu: bool, engine: bool) -> Need | None:
    """What training on the base model in `folder` needs; None when its files do not say.

    Args:
        rank: LoRA rank; 0: all parameters are trained.
        sequence: tokens of the longest sequence.
        on_gpu: weights, activations and optimizer are in the memory of a GPU: only processes and the reading of weights count.
        engine: whether rollouts need an engine with the same weights.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        text = config.get("text_config", config)
        parameters = sum(_numbers(file) for file in folder.glob("*.safetensors"))
        hidden, layers = int(text["hidden_size"]), int(text["num_hidden_layers"])
        inner = int(text.get("intermediate_size") or 4 * hidden)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    weights = 0 if on_gpu else parameters * FLOAT
    linears = layers * (4 * 2 * hidden + 3 * (hidden + inner))
    optimizer = parameters * FULL_STATE if rank == 0 else rank * linears * LORA_STATE
    activations = sequence * layers * (10 * hidden + 4 * inner) * FLOAT + HEAD_CHUNK_BYTES
    parts = {
        "learner": LEARNER_BASE + weights,
        "adapter and optimizer" if rank else "optimizer": 0 if on_gpu else optimizer,
        "activations": 0 if on_gpu else activations,
        "other processes": SMALL_PROCESSES if engine else 0,
    }
    return Need({**parts, "engine": ENGINE_BASE + weights} if engine else parts)


@dataclass(frozen=True)
class Held:
    """A job that was admitted."""

    name: str
    need: int
    """Its estimate, in bytes."""
    resident: int
    """What its processes hold now, in bytes."""


@dataclass(frozen=True)
class Machine:
    """Memory in bytes: of the machine, or of the cgroup that we are in where that is less."""

    total: int
    available: int

    @classmethod
    def look(cls, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Machine:
        """As it is now."""
        info = _fields(proc / "meminfo")
        total, available = info.get("MemTotal", 0) * 1024, info.get("MemAvailable", 0) * 1024
        for limit, used in _cgroup_limits(proc, cgroups):
            total, available = min(total, limit), min(available, max(0, limit - used))
        return cls(total, available)


@dataclass(frozen=True)
class Memory:
    """Which jobs may run together."""

    machine: Machine
    reserve: int
    """Left free, in bytes."""
    jobs_limit: int | None = None
    """What all jobs together may take, in bytes; None: what the machine has."""

    def never(self, need: Need) -> str:
        """Why a job can never run here; empty when it can."""
        most = self.machine.total - self.reserve
        if self.jobs_limit is not None and self.jobs_limit < most:
            what = f"job_memory_bytes allows {gib(self.jobs_limit)}"
            most = self.jobs_limit
        else:
            what = f"this machine has {gib(self.machine.total)}, of which {gib(self.reserve)} stay free (memory_reserve_bytes)"
        if need.total <= most:
            return ""
        return (
            f"The job needs {need} of memory, and {what}. Take a smaller base model, a lower LoRA rank or shorter "
            "sequences, or a machine with more memory."
        )

    def not_now(self, need: Need, held: Sequence[Held]) -> str:
        """What a job has to wait for; empty when it may begin."""
        spoken_for = sum(max(0, job.need - job.resident) for job in held)
        free = self.machine.available - self.reserve - spoken_for
        if self.jobs_limit is not None:
            free = min(free, self.jobs_limit - sum(max(job.need, job.resident) for job in held))
        if need.total <= free:
            return ""
        rest = f"Waits for memory: it needs {need}, and {gib(max(0, free))} are to be had"
        if not held:
            return f"{rest}: other programs of this machine hold the rest."
        names = ", ".join(job.name for job in held)
        return f"{rest} until one of these jobs ends: {names}."


def gib(size: int) -> str:
    """`2.5 GiB`, or `300 MiB` below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / MIB:.0f} MiB"


def _cgroup_limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """(limit, used without what the kernel can drop) of our cgroup and those above it, version 2 and 1, where they are limited."""
    found = []
    for line in _lines(proc / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            root, limit, used = cgroups, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = root / path.strip("/")
        for each in [folder, *(above for above in folder.parents if above == root or root in above.parents)]:
            most, now = _number(each / limit), _number(each / used)
            if most is not None and now is not None:
                stat = {
                    name: int(value)
                    for name, _, value in (entry.partition(" ") for entry in _lines(each / "memory.stat"))
                }
                found.append((most, now - stat.get("inactive_file", stat.get("total_inactive_file", 0))))
    return found


def _fields(path: Path) -> dict[str, int]:
    """`Name: 123 kB` lines."""
    pairs = (line.split(":", 1) for line in _lines(path) if ":" in line)
    return {name: int(value.split()[0]) for name, value in pairs if value.split() and value.split()[0].isdigit()}


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _numbers(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    with open(file, "rb") as content:
        header: dict[str, Any] = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
