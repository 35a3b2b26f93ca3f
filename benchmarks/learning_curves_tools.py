"""RFT on the tool agent, which runs on a server of its own, through the public command line. `make learning-curves-tools`.

Per seed: the curve, the held-out score of base and tuned model at four temperatures with intervals, pass@8, optimizer steps and
CPU-seconds as in `learning_curves.py`, the agent's server included. And every token that was trained is held against what the
gateway recorded of the agent's model calls: none may be lost, and none may be another. Writes
benchmarks/results/learning_curves_tools.md and .json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.curves import RESULTS, Finished, as_json, comparison, courses, train, verdict, write
from scripts.held_out import Measured, difference, measure
from tests.loop.platform import Platform
from tests.loop.recorded import Comparison, compare
from tests.loop.tool_agent import BASE, EVALUATOR, EXAMPLE, agent_server

MAX_TOKENS = 64
"""Of each model call, as in the evaluator and in training."""


def main() -> int:
    """Run it all; exit code 1 when a claim of the issue does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--problems", type=int, default=300, help="held-out questions per temperature")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the tables are written to")
    options = parser.parse_args()
    runs: list[Finished] = []
    tokens: dict[str, Comparison] = {}
    measured: dict[str, Measured] = {}
    with (
        tempfile.TemporaryDirectory(prefix="ts") as folder,
        Platform(Path(folder) / "h") as platform,
        agent_server(Path(folder) / "agent.log") as server,
    ):

        def score(model: str) -> Measured:
            return measure(
                EVALUATOR,
                model,
                rows=EXAMPLE / "held_out.jsonl",
                env={**platform.env, **server.setting},
                problems=options.problems,
                max_tokens=MAX_TOKENS,
            )

        base = score(BASE)
        print("base", *map(str, base.scores), f"pass@8 {base.pass_at_8:.3f}", flush=True)
        flags = ["--env-file", str(server.env_file(Path(folder) / "env"))]
        for seed in options.seeds:
            run = train(
                platform, EVALUATOR, f"seed-{seed}", base_model=BASE, seed=seed, flags=flags, beside=[server.pid]
            )
            runs.append(run)
            if run.steps:
                measured[run.label] = score(run.job["trainingConfig"]["outputModel"])
            directory = platform.data_dir / "runs" / run.job["name"].rsplit("/", 1)[-1]
            tokens[run.label] = compare(directory, platform.data_dir / "completions.db")
    failures = [claim for run in runs for claim in broken_claims(run, measured.get(run.label), base, tokens[run.label])]
    text = report(base, runs, measured, tokens, failures)
    print(text)
    record = {
        "base": base.as_json(),
        "runs": [{**as_json(run, measured.get(run.label), base), "tokens": asdict(tokens[run.label])} for run in runs],
    }
    write(options.results, "learning_curves_tools", text, record)
    return 1 if failures else 0


def report(
    base: Measured,
    runs: list[Finished],
    measured: dict[str, Measured],
    tokens: dict[str, Comparison],
    failures: list[str],
) -> str:
    """The tables as Markdown."""
    heads = [
        "",
        "rollouts trained",
        "model calls",
        "one sequence",
        "sampled tokens",
        "trained",
        "lost",
        "tokenised again",
    ]
    lines = [
        "# Learning curves of the tool agent",
        "",
        "Printed by `make learning-curves-tools`; one run. 95 % intervals. The agent runs on a server of its own; its CPU time is in CPU-s.",
        "",
        f"Held-out questions per temperature: {base.best.n}; pass@8 (a score of 1) on {base.pass_problems} questions, 8 rollouts each.",
        "",
        *comparison(base, runs, measured),
        "",
        *courses(runs),
        "",
        "## What was trained, beside what the gateway recorded",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for label, found in tokens.items():
        whole = f"{100 * (1 - found.forked / found.rollouts):.1f} %" if found.rollouts else ""
        row = [label, f"{found.rollouts:,}", f"{found.calls:,}", whole, f"{found.sampled:,}", f"{found.trained:,}"]
        lines.append("| " + " | ".join([*row, str(found.lost), str(found.strange)]) + " |")
    return "\n".join([*lines, *verdict(failures)]) + "\n"


def broken_claims(run: Finished, after: Measured | None, base: Measured, tokens: Comparison) -> list[str]:
    """Which of the issue's claims this run breaks."""
    if after is None:
        return [f"{run.label} took no step"]
    gain, low, _ = difference(after.at(1.0), base.best)
    checks = [
        ("gain of at least 0.20 over the base's best temperature", gain >= 0.2),
        ("interval of the gain above 0.12", low > 0.12),
        ("pass@8 does not fall", after.pass_at_8 >= base.pass_at_8),
        ("at most 150 steps", run.steps <= 150),
        ("most trained rollouts have several turns", 2 * tokens.spliced > tokens.rollouts),
        ("every rollout is one sequence", tokens.forked == 0),
        ("every recorded token is trained", tokens.lost == 0 and tokens.sampled > 0),
        ("no token is trained that was not recorded", tokens.strange == 0),
    ]
    return [f"{run.label}: {claim}" for claim, holds in checks if not holds]


if __name__ == "__main__":
    sys.exit(main())
