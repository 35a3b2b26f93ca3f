"""CPU-seconds until the reward is reached, and what it is after so many rollouts: ours and TRL's, on the same rows with the same reading
of an answer, at the same learning rates and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rft import job
from benchmarks.rft.peer import EXAMPLE, PROMPTS, N, trl
from tests.loop.platform import Platform

Runs = dict[str, list[dict[str, Any]]]
"""By contender."""
WANTED = 0.7
OVER = 5
"""Steps whose mean reward must reach it."""
RATES = (1e-3, 2e-3)
"""Learning rates of both."""
MARKS = (400, 800, 1600, 2400)
"""Rollouts after which the reward is told."""


def theirs(folder: Path, seed: int, rate: float, steps: int) -> dict[str, Any]:
    """One run of TRL."""
    ran = trl(
        folder,
        scoring=str(EXAMPLE / "evaluation.py"),
        max_tokens=80,
        steps=steps,
        learning_rate=rate,
        seed=seed,
        until={"reward": WANTED, "steps": OVER},
        options={"per_device_train_batch_size": 16},
    )
    start = ran["process_cpu_seconds"] - sum(step["cpu_seconds"] for step in ran["steps"])
    rewards = [step["reward"] for step in ran["steps"]]
    costs, total = [], 0.0
    for step in ran["steps"]:
        costs.append(total := total + step["cpu_seconds"])
    return summary(rewards, costs) | {"start": round(start, 1)}


def ours(platform: Platform, folder: Path, seed: int, rate: float) -> dict[str, Any]:
    """One job with the bundled model's defaults but for the learning rate."""
    ran = job.run(platform, folder, f"reward-{seed}-{rate:g}", seed=seed, flags=["--learning-rate", str(rate)])
    first = ran.chunks[0]["cpu"]
    rewards = [chunk["mean_score"] or 0.0 for chunk in ran.chunks]
    # As TRL's, a cost counts from the first step on; what came before it (evaluator build, start of engine and learner) is told apart.
    per_step = (ran.chunks[-1]["cpu"] - first) / max(1, len(ran.chunks) - 1)
    costs = [chunk["cpu"] - first + per_step for chunk in ran.chunks]
    return summary(rewards, costs) | {"start": round(first - per_step, 1)}


def merged(kept: Runs, found: Runs) -> Runs:
    """Runs of both contenders; what was found takes the place of the same learning rate and seed."""
    new = {(name, run["rate"], run["seed"]) for name, runs in found.items() for run in runs}
    return {
        name: [run for run in kept.get(name, []) if (name, run["rate"], run["seed"]) not in new] + found.get(name, [])
        for name in ("ours", "trl")
    }


def all_by_the_command(runs: Runs) -> bool:
    """Whether the command itself made every run; it names the commit."""
    return all("commit" in run for each in runs.values() for run in each)


def summary(rewards: list[float], costs: list[float]) -> dict[str, Any]:
    """When the reward was reached, and what it was on the way."""
    means = [sum(rewards[end - OVER : end]) / OVER for end in range(OVER, len(rewards) + 1)]
    reached = next((number + OVER for number, mean in enumerate(means) if mean >= WANTED), None)
    return {
        "steps": reached,
        "cpu_seconds": round(costs[reached - 1], 1) if reached else None,
        "rollouts": reached * PROMPTS * N if reached else None,
        "after": {mark: round(_around(rewards, mark // (PROMPTS * N)), 3) for mark in MARKS if _has(rewards, mark)},
        "rewards": [round(reward, 4) for reward in rewards],
    }


def _has(rewards: list[float], mark: int) -> bool:
    return len(rewards) >= mark // (PROMPTS * N)


def _around(rewards: list[float], step: int) -> float:
    """Mean of the five steps that end at `step`."""
    part = rewards[max(0, step - OVER) : step]
    return sum(part) / len(part)
