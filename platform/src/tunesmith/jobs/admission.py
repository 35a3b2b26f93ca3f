"""Whether the job whose turn it is may begin: asked by the worker before it claims one that needs much memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.jobs.memory import Held, Machine, Memory, Need, training_need
from tunesmith.jobs.models import base_model
from tunesmith.settings import Settings

_SHORTEST = 512
"""Tokens of a prompt that are counted where nothing says how long they are."""


def rft_need(spec: dict[str, Any], settings: Settings) -> Need | None:
    """What an RFT job needs; None when its base model is not on this machine yet."""
    sequence = spec.get("max_context_length") or spec["max_tokens"] + _SHORTEST
    need = _of_base(spec, settings, sequence=sequence, engine=True)
    return need.without("engine") if need is not None and _engine_runs(settings, spec["base_model"]) else need


def tuning_need(spec: dict[str, Any], settings: Settings) -> Need | None:
    """What an SFT or DPO job needs; None when its base model is not on this machine yet."""
    return _of_base(spec, settings, sequence=spec.get("max_context_length") or 4 * _SHORTEST, engine=False)


def _of_base(spec: dict[str, Any], settings: Settings, *, sequence: int, engine: bool) -> Need | None:
    try:
        base = base_model(settings, spec["base_model"], download=False)
    except TunesmithError:
        return None  # the handler downloads it, or says why it cannot
    on_gpu = Path("/dev/nvidiactl").exists()
    return training_need(base.path, rank=spec["lora_rank"], sequence=sequence, on_gpu=on_gpu, engine=engine)


def _engine_runs(settings: Settings, base_model: str) -> bool:
    """Whether the supervisor keeps an engine of that model: jobs and calls share it."""
    try:
        processes = json.loads(settings.path("supervisor.json").read_text())["processes"]
    except (OSError, ValueError, LookupError):
        return False
    return any(process["name"] == f"engine {base_model}" for process in processes)


@dataclass
class Admission:
    """The admitted jobs of one worker, and whether another fits beside them."""

    settings: Settings
    _needs: dict[str, int] = field(default_factory=dict)

    def judge(self, name: str, need: Need | None, resident: dict[str, int]) -> tuple[str, str]:
        """(why never, why not now), both empty when the job may begin; it counts as admitted then.

        Args:
            name: of the job.
            need: its estimate; None: nothing is known, and nothing held against it.
            resident: what the jobs that this worker holds have in memory now, in bytes, by name.
        """
        self.forget(resident)
        if need is None:
            return "", ""
        memory = Memory(Machine.look(), self.settings.memory_reserve_bytes, self.settings.job_memory_bytes)
        held = [Held(each, self._needs[each], size) for each, size in resident.items() if each in self._needs]
        never = memory.never(need)
        later = "" if never else memory.not_now(need, held)
        if not never and not later:
            self._needs[name] = need.total
        return never, later

    def forget(self, still_held: Iterable[str]) -> None:
        """Drop the estimates of jobs that have ended."""
        held = set(still_held)
        self._needs = {name: need for name, need in self._needs.items() if name in held}
