"""RFT beside TRL's GRPOTrainer and against itself, in CPU-seconds of one thread: `make bench-rft`.

| part | what | minutes on two idle cores, and with --short |
|---|---|---|
| step | learner and engine on fixed samples (equal lengths, every group varies) against TRL's step, split into sampling and update | 8, 1 |
| whole | a real job (HTTP, capture, evaluator host, publish; all processes counted) against TRL's whole step | 5, 2 |
| reward | CPU-seconds and rollouts to a reward of 0.7, both at the same learning rates and seeds | 3 a run and 12 runs, 3 |
| overlap | staleness 0, 1 and 4 on an agent with 200 ms latency | 5 a round, 3 |
| turns | CPU-seconds of each turn of a conversation of 30 turns, at the gateway and in the engine | 2, 1 |
| lengths | CPU-seconds of a token in the learner, in sequences of up to 30,720 tokens | 2, 1 |
| rows | memory and CPU-seconds of the orchestrator on datasets of 1,000 and 10,000 rows | 1, 1 |

Both contenders of a comparison run in turn in every round; TRL in an environment of its own under `.tools/trl`. What was measured is
kept in `benchmarks/results/bench_rft.json`, part by part with its command, date and commit, and the page is written from it; a part that
is run again replaces itself. Of `reward` a run (contender, learning rate, seed) replaces itself alone, so that its time can be spent
piece by piece. With no part the page is written anew from what was kept:

    python -m benchmarks.bench_rft [--short] [--parts step whole reward overlap turns lengths rows] [--rounds 3] [--check]
    python -m benchmarks.bench_rft --parts reward --rates 2e-3 --seeds 1 2 [--only ours]
    python -m benchmarks.bench_rft --parts
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.bench_sft import TRL, install
from benchmarks.rft import fixed, growth, job, overlap, report, reward
from benchmarks.rft.peer import MICRO_BATCHES, PROMPTS, REPO, N, middle, trl
from benchmarks.rft.report import RECORD, Section, missed
from tests.loop.platform import Platform

TOKENS = 46
"""Of an answer on fixed samples: the bundled model's own mean."""


def main() -> None:
    """Measure what was asked for, keep it, write the page and print it. With `--check`, exit 1 when a target is missed."""
    options = _options()
    job.one_thread()
    if any(PARTS[part].peered for part in options.parts):
        install(TRL)
    record: dict[str, Any] = _kept() if not options.parts else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory(prefix="ts") as folder:
            print(f"bench-rft: {part}", flush=True)
            for found in PARTS[part].measure(Path(folder), options):
                record = _with(record, part, found) if options.short else _keep(part, found)  # a part may take an hour
    if not options.short:
        _write(record)
    print(_page(record))
    failures = missed(record)
    sys.exit(1 if options.check and failures else 0)


def _kept() -> dict[str, Any]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def _keep(part: str, found: Any) -> dict[str, Any]:
    """The record with what was found, written; read anew each time, because another part may be measured beside this one."""
    record = _with(_kept(), part, found)
    _write(record)
    return record


def _with(record: dict[str, Any], part: str, found: Any) -> dict[str, Any]:
    """A record, and in it what was found, with what made it. A note said how an earlier run came about."""
    if part == "reward":
        found = reward.merged(record.get(part, {}), found)
    notes = dict(record.get("notes", {}))
    if part != "reward" or reward.all_by_the_command(found):
        notes.pop(part, None)
    command = shlex.join(["python", "-m", "benchmarks.bench_rft", *sys.argv[1:]])
    made = {**record.get("made", {}), part: {"command": command, "date": date.today().isoformat(), "commit": _commit()}}
    return {**record, part: found, "made": made, "notes": notes}


def _write(record: dict[str, Any]) -> None:
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    RECORD.with_suffix(".md").write_text(_page(record))


def _page(record: dict[str, Any]) -> str:
    return report.render(record, {name: part.section for name, part in PARTS.items()})


def _commit() -> str:
    """The commit that is measured; "+" behind it where what is measured was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "platform/src", "sdk/src", "benchmarks/rft", "benchmarks/bench_rft.py")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _step(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Rounds of {"ours": {"engine", "learner", "driver", "tokens"}, "trl": {micro-batch: {"generate", "cpu_seconds", "tokens"}}}."""
    steps, rounds = (3, 1) if options.short else (options.steps, options.rounds)
    found = []
    for number in range(rounds):
        ours = fixed.run(folder / "ours", steps, TOKENS)
        names = ("tokens", "engine", "learner", "driver")
        theirs = {}
        for micro in MICRO_BATCHES[2:3] if options.short else options.layouts:
            ran = trl(
                folder / "trl",
                scoring="coin",
                max_tokens=TOKENS,
                exact_length=True,
                steps=steps,
                learning_rate=1e-5,
                options={"per_device_train_batch_size": micro},
            )
            theirs[str(micro)] = {name: middle(ran["steps"], name) for name in ("tokens", "generate", "cpu_seconds")}
        found.append({"ours": {name: middle(ours, name) for name in names}, "trl": theirs})
        print(f"bench-rft: round {number + 1} of {rounds}: {found[-1]}", flush=True)
        yield found


def _whole(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Rounds of {"ours", "trl"}, each {"cpu_seconds" and "trained" tokens a step}; groups vary by a coin, the policy hardly moves.

    Of ours also "processes", CPU-seconds a step of each.
    """
    steps, rounds = (3, 1) if options.short else (options.steps, options.rounds)
    found = []
    with Platform(folder / "h") as platform:
        for number in range(rounds):
            project = job.project(folder / f"project-{number}", rows=PROMPTS * steps, coin=True)
            flags = ["--learning-rate", "1e-5", "--max-output-tokens", "80", "--chunk-size", "10"]
            ran = job.run(platform, project, f"whole-{number}", flags=flags)
            first, last = ran.chunks[0], ran.chunks[-1]
            taken = len(ran.chunks) - 1
            trained = sum(line["trained_tokens"] for line in ran.metrics[1:])
            ours = {
                "load": os.getloadavg()[0],
                "seconds": (last["time"] - first["time"]) / taken,
                "cpu_seconds": (last["cpu"] - first["cpu"]) / taken,
                "trained": trained / taken,
                "processes": {
                    name: (each - first["processes"].get(name, 0.0)) / taken for name, each in last["processes"].items()
                },
            }
            theirs = trl(
                folder / "trl",
                scoring="coin",
                max_tokens=80,
                steps=steps,
                learning_rate=1e-5,
                options={"per_device_train_batch_size": options.micro_batch},
            )["steps"][1:]
            their = {
                "cpu_seconds": sum(step["cpu_seconds"] for step in theirs) / len(theirs),
                "trained": sum(step["tokens"] for step in theirs) / len(theirs),
            }
            found.append({"ours": ours, "trl": their})
            print(f"bench-rft: round {number + 1} of {rounds}: {found[-1]}", flush=True)
            yield found


def _reward(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Every contender at every learning rate and seed that was asked for."""
    rows = 100 if options.short else 400
    with ExitStack() as stack:
        platform = None
        for seed in (0,) if options.short else options.seeds:
            for rate in options.rates[-1:] if options.short else options.rates:
                for name in [options.only] if options.only else ("ours", "trl"):
                    if name == "ours":
                        platform = platform or stack.enter_context(Platform(folder / "h"))
                        project = job.project(folder / f"gsm8k-{seed}-{rate:g}", rows=rows)
                        run = reward.ours(platform, project, seed, rate)
                    else:
                        run = reward.theirs(folder / f"trl-{seed}-{rate:g}", seed, rate, rows // PROMPTS)
                    run |= {"rate": rate, "seed": seed, "commit": _commit(), "date": date.today().isoformat()}
                    told = f"{run['steps']} steps, {run['cpu_seconds']} CPU-s" if run["steps"] else "not reached"
                    print(f"bench-rft: {name}, {rate:g}, seed {seed}: {told}; rewards {run['rewards']}", flush=True)
                    yield {name: [run]}


def _overlap(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Rounds of every staleness, every other round backwards: what else the machine does comes and goes."""
    found, rounds = [], 1 if options.short else options.rounds
    with Platform(folder / "h") as platform:
        project = overlap.project(folder / "gsm8k", 60 if options.short else 200)
        for number in range(rounds):
            for staleness in overlap.STALENESS[:: -1 if number % 2 else 1]:
                found.append(
                    {
                        "round": number,
                        **overlap.run(platform, project, f"overlap-{staleness}-{number}", staleness, 2e-3),
                    }
                )
                print(f"bench-rft: {found[-1]}", flush=True)
            yield found


def _turns(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, float]]]:
    base = growth.model(folder / "model")
    with Platform(folder / "h") as platform:
        yield growth.turns(platform, base, rollouts=1 if options.short else 3)


def _lengths(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, float]]]:
    yield growth.learner(growth.model(folder / "model"), growth.LENGTHS[: 3 if options.short else None])


def _rows(folder: Path, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    del options
    found: list[dict[str, Any]] = [*asyncio.run(growth.rows(folder / "rows"))]
    yield found
    yield [{**each, "job": growth.job_peaks(folder / f"job-{each['rows']}", each["rows"])} for each in found]


@dataclass(frozen=True)
class Part:
    """A part of the table above."""

    measure: Callable[[Path, argparse.Namespace], Iterator[Any]]
    """Yields all that it has found so far (`reward`: the run that it has made), to be kept at once."""
    section: Section
    peered: bool = False
    """Whether it needs TRL."""


PARTS = {
    "step": Part(_step, report.step, peered=True),
    "whole": Part(_whole, report.whole, peered=True),
    "reward": Part(_reward, report.reward, peered=True),
    "overlap": Part(_overlap, report.overlap),
    "turns": Part(_turns, report.turns),
    "lengths": Part(_lengths, report.lengths),
    "rows": Part(_rows, report.rows),
}
"""In the order of the page."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART", help="all of the table without this"
    )
    parser.add_argument(
        "--short", action="store_true", help="a trial: few steps, one round, one seed; nothing is written"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of step, whole and overlap")
    parser.add_argument(
        "--steps", type=int, default=6, help=f"of a round, {PROMPTS * N} rollouts each; the first warms up"
    )
    parser.add_argument(
        "--layouts", type=int, nargs="+", default=MICRO_BATCHES, help="rollouts of TRL's forward passes that are tried"
    )
    parser.add_argument("--micro-batch", type=int, default=16, help="rollouts of TRL's forward pass where one is tried")
    parser.add_argument("--rates", nargs="+", type=float, default=reward.RATES, help="learning rates of reward")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of reward")
    parser.add_argument("--only", choices=("ours", "trl"), help="of reward: one contender alone")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
