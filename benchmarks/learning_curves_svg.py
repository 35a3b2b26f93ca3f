"""RFT on the SVG agent, which runs on a server of its own, through the public command line. `make learning-curves-svg`.

Three seeds with the Python server and one with the TypeScript server. Per run: the curve, the held-out score of base and tuned model at
four temperatures with intervals, pass@8 (a perfect drawing), optimizer steps and CPU-seconds as in `learning_curves.py`, the
agent's server included. The judge is the geometric one. Writes benchmarks/results/learning_curves_svg.md and .json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.curves import RESULTS, Finished, as_json, comparison, courses, train, verdict, write
from scripts.agent_server import SERVERS, Agent, agent_server
from scripts.held_out import Measured, difference, measure
from tests.loop.platform import Platform

BASE = "accounts/tunesmith/models/tiny-svg-v1"
EVALUATOR = SERVERS / "evaluator"


def main() -> int:
    """Run it all; exit code 1 when a claim of the issue does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="with the Python server (default 0 1 2)"
    )
    parser.add_argument("--ts-seeds", type=int, nargs="*", default=[0], help="with the TypeScript server (default 0)")
    parser.add_argument("--problems", type=int, default=300, help="held-out drawings per temperature")
    parser.add_argument("--pass-problems", type=int, default=50, help="held-out drawings tried 8 times")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the tables are written to")
    options = parser.parse_args()
    runs: list[Finished] = []
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="ts") as folder, Platform(Path(folder) / "h") as platform:

        def score(model: str, agent: Agent) -> Measured:
            return measure(
                EVALUATOR,
                model,
                rows=SERVERS / "held_out.jsonl",
                env={**platform.env, **agent.setting},
                problems=options.problems,
                pass_problems=options.pass_problems,
            )

        base: Measured | None = None
        for kind, seeds in (("py", options.seeds), ("ts", options.ts_seeds)):
            if not seeds:
                continue
            with agent_server(kind, Path(folder) / f"agent-{kind}.log") as agent:
                if base is None:
                    base = score(BASE, agent)
                    print("base", *map(str, base.scores), f"pass@8 {base.pass_at_8:.3f}", flush=True)
                flags = ["--epochs", str(options.epochs), "--ignore-docker"]
                flags += ["--env-file", str(agent.env_file(Path(folder) / "env"))]
                for seed in seeds:
                    label = f"{kind}-seed-{seed}"
                    run = train(platform, EVALUATOR, label, base_model=BASE, seed=seed, flags=flags, beside=[agent.pid])
                    runs.append(run)
                    if run.steps:
                        measured[label] = score(run.job["trainingConfig"]["outputModel"], agent)
    if base is None:
        parser.error("nothing to run: give --seeds or --ts-seeds")
    failures = [claim for run in runs for claim in broken_claims(run, measured.get(run.label), base)]
    lines = [
        "# Learning curves of the SVG agent",
        "",
        "Printed by `make learning-curves-svg`; one run. 95 % intervals. The agent runs on a server of its own, in Python (`py`) or "
        "TypeScript (`ts`); its CPU time is in CPU-s. Judged by geometry.",
        "",
        f"Held-out drawings per temperature: {base.best.n}; pass@8 (a score of 1) on {base.pass_problems} drawings, 8 rollouts each.",
        "",
        *comparison(base, runs, measured),
        "",
        *courses(runs),
        *verdict(failures),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    record = {"base": base.as_json(), "runs": [as_json(run, measured.get(run.label), base) for run in runs]}
    write(options.results, "learning_curves_svg", text, record)
    return 1 if failures else 0


def broken_claims(run: Finished, after: Measured | None, base: Measured) -> list[str]:
    """Which of the issue's claims this run breaks."""
    if after is None:
        return [f"{run.label} took no step"]
    gain, low, _ = difference(after.at(1.0), base.best)
    checks = [
        ("gain of at least 0.20 over the base's best temperature", gain >= 0.2),
        ("interval of the gain above 0.12", low > 0.12),
        ("pass@8 does not fall", after.pass_at_8 >= base.pass_at_8),
        ("at most 150 steps", run.steps <= 150),
        ("no held-out drawing without a valid score", all(score.invalid == 0 for score in after.scores)),
    ]
    return [f"{run.label}: {claim}" for claim, holds in checks if not holds]


if __name__ == "__main__":
    sys.exit(main())
