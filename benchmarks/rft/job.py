"""A job through the public command line, with the CPU time of all of the platform's processes at every moment of it."""

from __future__ import annotations

import bisect
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curves import Meter
from benchmarks.learning_curves import BASE_MODEL, make_project
from tests.loop.platform import Platform

COIN = "    import zlib\n\n    is_correct = zlib.crc32(row.execution_metadata.rollout_id.encode()) % 2 == 0\n"
"""Every other rollout scores 1 whatever it says, so that hardly any group is constant."""
VERDICT = "    is_correct = predicted == expected\n"


class Timeline(Meter):
    """CPU-seconds of the processes below some, over time."""

    def __init__(self, *pids: int) -> None:
        self.points: list[tuple[float, dict[str, float]]] = []
        super().__init__(*pids)

    def _look(self) -> None:
        super()._look()
        self.points.append((time.time(), self._seen))

    def at(self, moment: float) -> dict[str, float]:
        """CPU-seconds of each process from the first look to a moment of the wall clock, between the two nearest looks."""
        times = [point[0] for point in self.points]
        after = min(max(1, bisect.bisect_left(times, moment)), len(times) - 1)
        (t0, before), (t1, then) = self.points[after - 1 : after + 1]
        share, start = min(1.0, max(0.0, (moment - t0) / max(1e-9, t1 - t0))), self.points[0][1]
        found = {}
        for name, seconds in then.items():
            earlier = before.get(name, 0.0)
            found[name] = earlier + (seconds - earlier) * share - start.get(name, 0.0)
        return found


@dataclass(frozen=True)
class Job:
    """How a job went."""

    state: str
    chunks: list[dict[str, Any]]
    """Events of its chunks, each with "processes": CPU-seconds of each since the command was given, up to the event's time; "cpu": of all."""
    metrics: list[dict[str, Any]]
    peak_mib: dict[str, float]


def project(folder: Path, *, rows: int | None = None, coin: bool = False) -> Path:
    """The example's evaluator in a folder of its own, with its first `rows` rows."""
    make_project(folder)
    source = folder / "evaluation.py"
    if coin:
        text = source.read_text()
        assert text.count(VERDICT) == 1
        source.write_text(text.replace(VERDICT, VERDICT + COIN))
    if rows is not None:
        data = folder / "gsm8k_sample.jsonl"
        data.write_text("".join(line + "\n" for line in data.read_text().splitlines()[:rows]))
    return folder


def run(
    platform: Platform,
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    flags: Sequence[str] = (),
    beside: Sequence[int] = (),
    base_model: str = BASE_MODEL,
) -> Job:
    """One job to its end; `beside` are processes that count as cost, too. Raises SystemExit with what the command said otherwise."""
    assert platform.process is not None
    timeline = Timeline(platform.process.pid, *beside)
    argv = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", base_model, "--force"]
    argv += ["--extra-body", json.dumps({"seed": seed}), "--output-model", f"bench-{name}", *flags, "--wait", "--json"]
    ended = subprocess.run(argv, cwd=folder, env=platform.env, capture_output=True, text=True)
    timeline.stop()
    result = json.loads(ended.stdout) if ended.stdout.strip() else {}
    if "job" not in result:
        raise SystemExit(ended.stderr or ended.stdout)
    job, stored = platform.job(result["job"]), platform.get(f"/v1/{result['job']}/metrics")
    if job["state"] != "JOB_STATE_COMPLETED":
        raise SystemExit(f"bench-rft: {job['name']} ended {job['state']}: {job['status'].get('message')}")
    events = [event for event in stored["events"] if event["kind"] == "chunk"]
    spent = [timeline.at(event["time"]) for event in events]
    chunks = [
        {**event, "processes": each, "cpu": sum(each.values())} for event, each in zip(events, spent, strict=True)
    ]
    return Job(job["state"], chunks, stored["metrics"], timeline.peak_mib)


def one_thread() -> None:
    """For this process and all that it starts."""
    os.environ["OMP_NUM_THREADS"] = "1"
