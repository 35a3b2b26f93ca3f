"""What is decided before the first step: the learning rate of each step, which samples each step takes, and when to evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tunesmith.runs.tuning import Schedule, ScheduleKind


def rate(schedule: Schedule, step: int, total_steps: int) -> float:
    """Share of the learning rate that optimizer step `step` (0-based) of `total_steps` takes, in 0..1.

    Warm-up is linear: 1/w, 2/w, ..., 1. Behind it `linear` and `cosine` fall from 1 to `min_ratio` within `decay_ratio` of the
    remaining steps (0 = all of them) and stay there.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if schedule.kind is ScheduleKind.CONSTANT:
        return 1.0
    falling = max(1.0, (total_steps - warmup) * (schedule.decay_ratio or 1.0))
    fallen = min(1.0, (step - warmup) / falling)
    height = 1 - fallen if schedule.kind is ScheduleKind.LINEAR else (1 + math.cos(math.pi * fallen)) / 2
    return schedule.min_ratio + (1 - schedule.min_ratio) * height


@dataclass(frozen=True)
class Order:
    """Which samples each step takes: a new permutation every epoch, drawn from the seed; no batch straddles two epochs."""

    samples: int
    batch_size: int
    epochs: float
    seed: int
    _permutations: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Optimizer steps of the run, at least 1."""
        whole, rest = self._passes()
        return whole * self._steps_per_epoch + math.ceil(rest / self.batch_size)

    def batch(self, step: int) -> list[int]:
        """Numbers of the samples of a step (0-based), ascending within the batch."""
        epoch, place = divmod(step, self._steps_per_epoch)
        whole, rest = self._passes()
        end = self.samples if epoch < whole else rest
        taken = self._permutation(epoch)[place * self.batch_size : min(end, (place + 1) * self.batch_size)]
        return sorted(taken.tolist())

    def epoch(self, step: int) -> float:
        """Passes over the samples after `step` steps, a fraction within one."""
        epoch, place = divmod(step, self._steps_per_epoch)
        whole, rest = self._passes()
        end = self.samples if epoch < whole else rest
        return epoch + min(end, place * self.batch_size) / self.samples

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    def _passes(self) -> tuple[int, int]:
        """Whole epochs, and the samples of the last, unfinished one."""
        total = max(1, round(self.epochs * self.samples))
        return divmod(total, self.samples)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            self._permutations.clear()  # one epoch at a time
            self._permutations[epoch] = np.random.default_rng([abs(self.seed), epoch]).permutation(self.samples)
        return self._permutations[epoch]


def evaluation_steps(evaluations: int, total_steps: int) -> set[int]:
    """After which steps the held-out rows are evaluated: before the first, then evenly, the last step always among them."""
    return {0, *(math.ceil(total_steps * number / evaluations) for number in range(1, evaluations + 1))}
