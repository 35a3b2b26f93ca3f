"""Staleness 0, 1 and 4 on an agent that waits 200 ms for something else in every call: steps a minute, and what was learned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.rft import job
from tests.loop.platform import Platform

LATENCY_SECONDS = 0.2
STALENESS = (0, 1, 4)
LAST = 5
"""Steps at the end whose mean reward is told."""
PROCESSOR = "    rollout_processor=SingleTurnRolloutProcessor(),\n"
SLOW = '''

class SlowAgent(SingleTurnRolloutProcessor):
    """A model call, then a wait for something that is not this machine."""

    def __call__(self, rows, config):
        return [asyncio.create_task(self._late(task)) for task in super().__call__(rows, config)]

    async def _late(self, task):
        row = await task
        await asyncio.sleep(%s)
        return row

'''


def project(folder: Path, rows: int) -> Path:
    """The example with that agent."""
    job.project(folder, rows=rows)
    source = folder / "evaluation.py"
    text = source.read_text()
    assert text.count(PROCESSOR) == 1
    text = text.replace(PROCESSOR, "    rollout_processor=SlowAgent(),\n").replace(
        "import re\n", "import asyncio\nimport re\n"
    )
    source.write_text(text.replace("\n\n@evaluation_test(", SLOW % LATENCY_SECONDS + "\n@evaluation_test(", 1))
    return folder


def run(platform: Platform, folder: Path, name: str, staleness: int, rate: float) -> dict[str, Any]:
    """One job, its model called `bench-{name}`; times from its first chunk's end to its last one's."""
    flags = ["--max-staleness", str(staleness), "--learning-rate", str(rate)]
    ran = job.run(platform, folder, name, flags=flags)
    chunks, steps = ran.chunks, len(ran.chunks) - 1
    seconds = chunks[-1]["time"] - chunks[0]["time"]
    rewards = [chunk["mean_score"] or 0.0 for chunk in chunks]
    return {
        "staleness": staleness,
        "load": round(os.getloadavg()[1], 1),
        "state": ran.state,
        "steps": len(ran.metrics),
        "steps_per_minute": round(60 * steps / seconds, 2),
        "cpu_per_step": round((chunks[-1]["cpu"] - chunks[0]["cpu"]) / steps, 2),
        "wait_seconds": round(sum(chunk["wait_seconds"] for chunk in chunks[1:]) / steps, 3),
        "rollout_seconds": round(sum(chunk["rollout_seconds"] for chunk in chunks[1:]) / steps, 3),
        "reward": round(sum(rewards[-LAST:]) / LAST, 3),
        "staleness_mean": round(sum(line["staleness_mean"] for line in ran.metrics) / len(ran.metrics), 2),
        "ess": round(min(line["ess"] for line in ran.metrics), 4),
        "clip_fraction": round(max(line["clip_fraction"] for line in ran.metrics), 4),
    }
