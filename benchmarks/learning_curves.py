"""RFT on the GSM8K-style example: three seeds and the controls, through the public command line. `make learning-curves`.

Per seed: the curve, the held-out score of base and tuned model at four temperatures with intervals, pass@8, optimizer steps, and the
CPU-seconds of the job (evaluator host, orchestrator, learner, engine and web process, their start-up and the job's own
held-out evaluations included). Controls: scores drawn at random must lift nothing, inverted scores must drive the score down,
a constant score must end without a step. Writes benchmarks/results/learning_curves.md and .json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.curves import RESULTS, Finished, as_json, comparison, courses, train, verdict, write
from scripts.held_out import Measured, difference, measure
from tests.loop.platform import REPO, Platform

BASE_MODEL = "accounts/tunesmith/models/tiny-math-v1"
EXAMPLE = REPO / "examples" / "gsm8k"
CONTROLS = {
    "random": "    import zlib\n\n    is_correct = zlib.crc32(row.execution_metadata.rollout_id.encode()) % 8 == 0\n",
    "inverted": "    is_correct = not is_correct\n",
    "constant": "    is_correct = True\n",
}
VERDICT = "    is_correct = predicted == expected\n"
"""The line of the example after which a control changes the verdict."""


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
            runs.append(train(platform, project, f"seed-{seed}", base_model=BASE_MODEL, seed=seed))
        for control in options.controls:
            changed = make_project(work / control, control)
            runs.append(train(platform, changed, control, base_model=BASE_MODEL, seed=0))
        for run in runs:
            if run.steps:
                measured[run.label] = score(run.job["trainingConfig"]["outputModel"])
    text, failures = report(base, runs, measured, judge_cost=not options.no_cost_claim)
    print(text)
    record = {"base": base.as_json(), "runs": [as_json(run, measured.get(run.label), base) for run in runs]}
    write(options.results, "learning_curves", text, record)
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


def report(
    base: Measured, runs: list[Finished], measured: dict[str, Measured], *, judge_cost: bool
) -> tuple[str, list[str]]:
    """The tables as Markdown, and which claims do not hold."""
    failures = [claim for run in runs for claim in broken_claims(run, measured.get(run.label), base, judge_cost)]
    lines = [
        "# Learning curves of the GSM8K-style example",
        "",
        "Printed by `make learning-curves`; one run. 95 % intervals.",
        "",
        f"Held-out problems per temperature: {base.best.n}; pass@8 on {base.pass_problems} problems, 8 samples each.",
        "",
        *comparison(base, runs, measured),
        "",
        *courses(runs),
        *verdict(failures),
    ]
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
            ("at most 120 steps", run.steps <= 120),
            ("at most 200 CPU-seconds", run.cpu_seconds <= 200 or not judge_cost),
        ],
    )
    return [f"{run.label}: {claim}" for claim, holds in checks if not holds]


if __name__ == "__main__":
    sys.exit(main())
