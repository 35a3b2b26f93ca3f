"""RFT on the GSM8K-style example: three seeds and the controls, through the public command line. `make learning-curves`.

Per seed: the curve, the held-out score of base and tuned model at four temperatures with intervals, pass@8, optimizer steps, and the
CPU-seconds of the job (evaluator host, orchestrator, learner, engine and web process, their start-up and the job's own
held-out evaluations included). Controls: scores drawn at random must lift nothing, inverted scores must drive the score down,
a constant score must end without a step. Writes benchmarks/results/learning_curves.md and .json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.held_out import TEMPERATURES, Measured, difference, measure
from tests.loop.platform import REPO, Platform

BASE_MODEL = "accounts/tunesmith/models/tiny-math-v1"
EXAMPLE = REPO / "examples" / "gsm8k"
RESULTS = REPO / "benchmarks" / "results"
CONTROLS = {
    "random": "    import zlib\n\n    is_correct = zlib.crc32(row.execution_metadata.rollout_id.encode()) % 8 == 0\n",
    "inverted": "    is_correct = not is_correct\n",
    "constant": "    is_correct = True\n",
}
VERDICT = "    is_correct = predicted == expected\n"
"""The line of the example after which a control changes the verdict."""


MODULES = {
    "tunesmith.server": "web",
    "tunesmith.jobs": "worker",
    "tunesmith.engines": "engine",
    "tunesmith.orchestrator": "orchestrator",
    "tunesmith.training": "learner",
    "eval_protocol.host": "evaluator host (its largest process)",
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


class Meter:
    """CPU-seconds of all processes below one, those that end included (to within one look), and their peak memory by name."""

    def __init__(self, pid: int) -> None:
        self._root, self._seen, self._stop = psutil.Process(pid), {}, threading.Event()
        self.peak_mib: dict[str, float] = {}
        self._look()
        self._start = dict(self._seen)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """CPU-seconds since the start."""
        self._stop.set()
        self._thread.join()
        self._look()
        return sum(value - self._start.get(key, 0.0) for key, value in self._seen.items())

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self._look()

    def _look(self) -> None:
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                times, key = process.cpu_times(), (process.pid, process.create_time())
                self._seen[key] = times.user + times.system
                for name in MODULES.keys() & set(process.cmdline()):
                    mib = round(process.memory_info().rss / 2**20, 1)
                    self.peak_mib[MODULES[name]] = max(mib, self.peak_mib.get(MODULES[name], 0.0))
            except psutil.NoSuchProcess:
                continue


def main() -> int:
    """Run it all; exit code 1 when a claim of the issue does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--controls", nargs="*", default=["random", "inverted", "constant"], choices=list(CONTROLS))
    parser.add_argument("--problems", type=int, default=600, help="held-out problems per temperature")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the tables are written to")
    parser.add_argument(
        "--no-cost-claim", action="store_true", help="print CPU-seconds without judging them (noisy machines)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ts") as folder, Platform(Path(folder) / "h") as platform:
        work = Path(folder)
        project = make_project(work / "gsm8k")

        def score(model: str) -> Measured:
            return measure(
                project, model, rows=EXAMPLE / "gsm8k_heldout.jsonl", env=platform.env, problems=options.problems
            )

        base = score(BASE_MODEL)
        print("base", *map(str, base.scores), f"pass@8 {base.pass_at_8:.3f}", flush=True)
        runs, measured = [], {}
        for seed in options.seeds:
            runs.append(finish(platform, project, f"seed-{seed}", seed))
        for control in options.controls:
            runs.append(finish(platform, make_project(work / control, control), control, 0))
        for run in runs:
            if run.job["run"]["optimizer_steps"]:
                measured[run.label] = score(run.job["trainingConfig"]["outputModel"])
    text, failures = report(base, runs, measured, judge_cost=not options.no_cost_claim)
    print(text)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "learning_curves.md").write_text(text)
    record = {"base": base.as_json(), "runs": [as_json(run, measured.get(run.label), base) for run in runs]}
    (options.results / "learning_curves.json").write_text(json.dumps(record, indent=1))
    return 1 if failures else 0


def make_project(folder: Path, control: str | None = None) -> Path:
    """A copy of the example; a control changes its verdict."""
    folder.mkdir(parents=True)
    for name in ("requirements.txt", "gsm8k_sample.jsonl"):
        shutil.copy(EXAMPLE / name, folder)
    source = (EXAMPLE / "evaluation.py").read_text()
    if control is not None:
        if source.count(VERDICT) != 1:
            raise SystemExit(f"examples/gsm8k/evaluation.py has no single line {VERDICT!r}")
        source = source.replace(VERDICT, VERDICT + CONTROLS[control])
    (folder / "evaluation.py").write_text(source)
    return folder


def finish(platform: Platform, project: Path, label: str, seed: int) -> Finished:
    """One job through `ep create rft --wait`."""
    assert platform.process is not None
    meter, started = Meter(platform.process.pid), time.monotonic()
    argv = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", BASE_MODEL, "--eval-auto-carveout"]
    argv += [
        "--extra-body",
        json.dumps({"seed": seed}),
        "--output-model",
        f"curve-{label}",
        "--force",
        "--wait",
        "--json",
    ]
    ended = subprocess.run(argv, cwd=project, env=platform.env, capture_output=True, text=True)
    if not ended.stdout.strip():
        raise SystemExit(ended.stderr)
    name = json.loads(ended.stdout)["job"]
    job, stored = platform.job(name), platform.get(f"/v1/{name}/metrics")
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
    print(label, job["state"], f"{job['run']['optimizer_steps']} steps, {run.cpu_seconds:.0f} CPU-s", flush=True)
    return run


def report(
    base: Measured, runs: list[Finished], measured: dict[str, Measured], *, judge_cost: bool
) -> tuple[str, list[str]]:
    """The tables as Markdown, and which claims do not hold."""
    lines = [
        "# Learning curves of the GSM8K-style example",
        "",
        "Printed by `make learning-curves`; one run. 95 % intervals.",
    ]
    lines += [
        "",
        f"Held-out problems per temperature: {base.best.n}; pass@8 on {base.pass_problems} problems, 8 samples each.",
        "",
    ]
    heads = [
        "",
        *(f"T={t:g}" for t in TEMPERATURES),
        "pass@8",
        "gain at T=1 over the base's best",
        "steps",
        "CPU-s",
        "wall s",
    ]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    row = ["base", *(str(base.at(t)) for t in TEMPERATURES), f"{base.pass_at_8:.3f}", "", "", "", ""]
    lines.append("| " + " | ".join(row) + " |")
    failures = []
    for run in runs:
        after = measured.get(run.label)
        steps = run.job["run"]["optimizer_steps"]
        if after is None:
            row = [run.label, *("no model" for _ in TEMPERATURES), "", run.job["state"], str(steps)]
        else:
            gain, low, high = difference(after.at(1.0), base.best)
            row = [run.label, *(str(after.at(t)) for t in TEMPERATURES), f"{after.pass_at_8:.3f}"]
            row += [f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]", str(steps)]
        row += [f"{run.cpu_seconds:.0f}", f"{run.wall_seconds:.0f}"]
        lines.append("| " + " | ".join(row) + " |")
        failures += broken_claims(run, after, base, judge_cost)
    lines += ["", "## Mean training score per ten steps, and held-out score during training", ""]
    for run in runs:
        tens = [run.chunks[i : i + 10] for i in range(0, len(run.chunks), 10)]
        means = [sum(c["mean_score"] or 0.0 for c in ten) / len(ten) for ten in tens]
        lines.append(f"- {run.label}: train {' '.join(f'{mean:.2f}' for mean in means)}")
        held = " ".join(f"v{e['version']}:{e['score']:.2f}" for e in run.evaluations)
        mismatch = max((m["mismatch_max"] for m in run.metrics), default=0.0)
        lines.append(f"  held-out {held}; largest engine-learner difference {mismatch:.1e}")
    peaks = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(runs[0].peak_mib.items()))
    lines += ["", f"Peak resident memory of each process during {runs[0].label}, in MiB: {peaks}."]
    lines += (
        ["", *(f"NOT MET: {failure}" for failure in failures)]
        if failures
        else ["", "Every claim checked by this script holds."]
    )
    return "\n".join(lines) + "\n", failures


def broken_claims(run: Finished, after: Measured | None, base: Measured, judge_cost: bool) -> list[str]:
    """Which of the issue's claims this run breaks."""
    if run.label == "constant":
        return [] if run.job["state"] == "JOB_STATE_EARLY_STOPPED" else [f"constant ended {run.job['state']}"]
    if after is None:
        return [f"{run.label} took no step"]
    gain, low, _ = difference(after.at(1.0), base.best)
    checks = {
        "random": [("scores drawn at random lift nothing", gain < 0.1)],
        "inverted": [("inverted scores drive it down", after.at(1.0).mean < base.at(1.0).mean)],
    }.get(
        run.label,
        [
            ("gain of at least 0.50 over the base's best temperature", gain >= 0.5),
            ("interval of the gain above 0.40", low > 0.4),
            ("0.80 at temperature 1", after.at(1.0).mean >= 0.8),
            ("pass@8 does not fall", after.pass_at_8 >= base.pass_at_8),
            ("at most 120 steps", run.job["run"]["optimizer_steps"] <= 120),
            ("at most 200 CPU-seconds", run.cpu_seconds <= 200 or not judge_cost),
        ],
    )
    return [f"{run.label}: {claim}" for claim, holds in checks if not holds]


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


if __name__ == "__main__":
    sys.exit(main())
