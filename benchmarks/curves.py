"""What all learning curves share: a job through the public command line with its cost measured, and its tables."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.held_out import TEMPERATURES, Measured, difference
from tests.loop.platform import REPO, Platform

RESULTS = REPO / "benchmarks" / "results"

HOST, OTHER = "evaluator host", "other"
MODULES = {
    "tunesmith.server": "web",
    "tunesmith.jobs": "worker",
    "tunesmith.engines": "engine",
    "tunesmith.orchestrator": "orchestrator",
    "tunesmith.training": "learner",
    "eval_protocol.host": HOST,
}
"""What a process is called, by the module that it runs."""


@dataclass(frozen=True)
class Finished:
    """One job and what it cost."""

    label: str
    job: dict[str, Any]
    chunks: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    cpu_seconds: float
    wall_seconds: float
    peak_mib: dict[str, float]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.job["run"]["optimizer_steps"]


class Meter:
    """CPU-seconds of all processes below some, and their peak memory by name.

    A process counts with the children that it has reaped, as the kernel adds them up: a process that lives for milliseconds is never seen.
    """

    def __init__(self, *pids: int) -> None:
        self._roots, self._stop = [psutil.Process(pid) for pid in pids], threading.Event()
        self._seen: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}
        self._look()
        self._start = self.cpu_seconds()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """CPU-seconds since the start."""
        self._stop.set()
        self._thread.join()
        self._look()
        return self.cpu_seconds() - self._start

    def cpu_seconds(self) -> float:
        """CPU-seconds at the last look, since the processes began."""
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self._look()

    def _look(self) -> None:
        seen: dict[str, float] = {}
        for process in [each for root in self._roots for each in (root, *root.children(recursive=True))]:
            try:
                name = next((MODULES[word] for word in process.cmdline() if word in MODULES), OTHER)
                seen[name] = seen.get(name, 0.0) + sum(process.cpu_times()[:4])
                mib = round(process.memory_info().rss / 2**20, 1)
            except psutil.NoSuchProcess:
                continue
            if name != OTHER:
                self.peak_mib[name] = max(mib, self.peak_mib.get(name, 0.0))
        self._seen = seen


def train(
    platform: Platform,
    project: Path,
    label: str,
    *,
    base_model: str,
    seed: int,
    flags: Sequence[str] = (),
    beside: Sequence[int] = (),
) -> Finished:
    """One job through `ep create rft --wait`; its model is `curve-{label}`.

    Args:
        platform: where; running.
        project: the evaluator's folder.
        label: what the run is called in the tables.
        base_model: by name.
        seed: of the job.
        flags: more of the command line.
        beside: processes that count as cost, too, such as an agent's server.

    Raises:
        SystemExit: the command printed no result; with what it said.
    """
    assert platform.process is not None
    meter, started = Meter(platform.process.pid, *beside), time.monotonic()
    argv = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", base_model, "--eval-auto-carveout"]
    argv += ["--extra-body", json.dumps({"seed": seed}), "--output-model", f"curve-{label}", "--force", *flags]
    ended = subprocess.run([*argv, "--wait", "--json"], cwd=project, env=platform.env, capture_output=True, text=True)
    result = json.loads(ended.stdout) if ended.stdout.strip() else {}
    if "job" not in result:
        raise SystemExit(ended.stderr or ended.stdout)
    job, stored = platform.job(result["job"]), platform.get(f"/v1/{result['job']}/metrics")
    events = stored["events"]
    run = Finished(
        label,
        job,
        [event for event in events if event["kind"] == "chunk"],
        [event for event in events if event["kind"] == "evaluation"],
        stored["metrics"],
        meter.stop(),
        time.monotonic() - started,
        meter.peak_mib,
    )
    print(label, job["state"], f"{run.steps} steps, {run.cpu_seconds:.0f} CPU-s", flush=True)
    return run


def comparison(base: Measured, runs: Sequence[Finished], measured: Mapping[str, Measured]) -> list[str]:
    """The table of the base and what came of each run, as lines of Markdown."""
    heads = ["", *(f"T={t:g}" for t in TEMPERATURES), "pass@8", "gain at T=1 over the base's best"]
    heads += ["steps", "CPU-s", "wall s"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    row = ["base", *(str(base.at(t)) for t in TEMPERATURES), f"{base.pass_at_8:.3f}", "", "", "", ""]
    lines.append("| " + " | ".join(row) + " |")
    for run in runs:
        after = measured.get(run.label)
        if after is None:
            row = [run.label, *("no model" for _ in TEMPERATURES), "", run.job["state"], str(run.steps)]
        else:
            gain, low, high = difference(after.at(1.0), base.best)
            row = [run.label, *(str(after.at(t)) for t in TEMPERATURES), f"{after.pass_at_8:.3f}"]
            row += [f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]", str(run.steps)]
        lines.append("| " + " | ".join([*row, f"{run.cpu_seconds:.0f}", f"{run.wall_seconds:.0f}"]) + " |")
    return lines


def courses(runs: Sequence[Finished]) -> list[str]:
    """How the scores of each run went, as lines of Markdown."""
    lines = ["## Mean training score per ten steps, and held-out score during training", ""]
    for run in runs:
        tens = [run.chunks[i : i + 10] for i in range(0, len(run.chunks), 10)]
        means = [sum(c["mean_score"] or 0.0 for c in ten) / len(ten) for ten in tens]
        lines.append(f"- {run.label}: train {' '.join(f'{mean:.2f}' for mean in means)}")
        held = " ".join(f"v{e['version']}:{e['score']:.2f}" for e in run.evaluations)
        mismatch = max((m["mismatch_max"] for m in run.metrics), default=0.0)
        lines.append(f"  held-out {held}; largest engine-learner difference {mismatch:.1e}")
    told = {HOST: f"{HOST} (its largest process)"}
    peaks = ", ".join(f"{told.get(name, name)} {mib:.0f}" for name, mib in sorted(runs[0].peak_mib.items()))
    return [*lines, "", f"Peak resident memory of each process during {runs[0].label}, in MiB: {peaks}."]


def verdict(failures: Sequence[str]) -> list[str]:
    """The last lines: which claims do not hold."""
    return (
        ["", *(f"NOT MET: {one}" for one in failures)]
        if failures
        else ["", "Every claim checked by this script holds."]
    )


def write(folder: Path, name: str, text: str, record: Mapping[str, Any]) -> None:
    """Write `{name}.md` and `{name}.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1))


def as_json(run: Finished, after: Measured | None, base: Measured) -> dict[str, Any]:
    """Plain data of one run."""
    return {
        "label": run.label,
        "state": run.job["state"],
        "run": run.job["run"],
        "after": after.as_json() if after else None,
        "gain": difference(after.at(1.0), base.best) if after else None,
        "cpu_seconds": round(run.cpu_seconds, 1),
        "wall_seconds": round(run.wall_seconds, 1),
        "peak_mib": run.peak_mib,
        "train": [chunk["mean_score"] for chunk in run.chunks],
        "held_out": [(event["version"], event["score"], event["low"], event["high"]) for event in run.evaluations],
        "learner_cpu_seconds": round(sum(m["cpu_seconds"] for m in run.metrics), 1),
    }
