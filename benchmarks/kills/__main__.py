"""`make check-kills`: 100 kills over several jobs, held against the same job undisturbed; the table goes to `benchmarks/results/kills.md`.

python -m benchmarks.kills --kills 100 --seeds 1 2 3 --results benchmarks/results
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.kills.campaign import EVERYTHING, Ended, Fire, Kill, Size, run
from benchmarks.kills.held import Claim, adapters, claims
from benchmarks.kills.instants import MOMENTS, PLACES

SIZE = Size(rows=20, chunk=2, epochs=5, max_tokens=16)
AT_ONCE = 2
"""Jobs that run at the same time."""


def main() -> int:
    """Run the jobs; exit code 0 when every claim holds for every one of them, and every kill was done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="in all (default 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one job each (default 1 2 3)")
    parser.add_argument(
        "--epochs", type=int, default=SIZE.epochs, help=f"of a job; ten steps each (default {SIZE.epochs})"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="no kill after so many minutes (default: no limit)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of the jobs, and say where they are")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="where the table goes")
    options = parser.parse_args()
    size = replace(SIZE, epochs=options.epochs)
    until = time.monotonic() + 60 * options.minutes
    folder = Path(tempfile.mkdtemp(prefix="tk"))
    share = -(-options.kills // len(options.seeds))
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calm = pool.submit(_undisturbed, folder / "calm", size)
            fires = {seed: Fire(share, seed, until=until) for seed in options.seeds}
            hurt = {seed: pool.submit(_hurt, folder, seed, size, fire, calm) for seed, fire in fires.items()}
            found = {seed: _result(job) for seed, job in hurt.items()}
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    text = report({seed: fire.done for seed, fire in fires.items()}, found, size)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "kills.md").write_text(text)
    print(text)
    done = sum(len(fire.done) for fire in fires.values())
    return 0 if done >= options.kills and all(claim.holds for each in found.values() for claim in each) else 1


def _result(job: Future[list[Claim]]) -> list[Claim]:
    """What was found of a job; that it could not be brought to its end is a finding, and leaves the others theirs."""
    error = job.exception()
    if error is None:
        return job.result()
    traceback.print_exception(error)
    return [Claim("the job completed", False, f"{type(error).__name__}: {error}".splitlines()[0])]


def _undisturbed(home: Path, size: Size) -> dict[str, str]:
    ended = run(home, size, Fire(0, 0))
    ended.platform.stop()
    return adapters(ended.run_dir)


def _hurt(folder: Path, seed: int, size: Size, fire: Fire, calm: Future[dict[str, str]]) -> list[Claim]:
    def say(line: str) -> None:
        print(f"job {seed}: {line}", flush=True)

    ended: Ended = run(folder / f"j{seed}", size, fire, say)
    try:
        found = claims(ended, folder / f"r{seed}", calm.result())
    finally:
        ended.platform.stop()
    for claim in found:
        say(f"{'holds' if claim.holds else 'DOES NOT HOLD'}: {claim.what}: {claim.found}")
    return found


def report(kills: dict[int, list[Kill]], found: dict[int, list[Claim]], size: Size) -> str:
    """The result as a page."""
    every = [kill for each in kills.values() for kill in each]
    lines = [
        "# kill -9 anywhere",
        "",
        "`make check-kills` wrote this.",
        "",
        f"{len(every)} kills (SIGKILL) in {len(kills)} jobs of {size.chunks} steps, {size.chunk} rows a step, {size.n} rollouts a row. A place is hit exactly: the",
        "process is killed right before the act that the table names. A moment is a random time while the phase goes on. With a process goes, in a",
        "part of the kills, a second one chosen at random, or the supervisor and with it everything. While a job runs, a client of its own keeps every",
        "completion that it received whole.",
        "",
        "## What held",
        "",
        "| claim | " + " | ".join(f"job {seed}, {len(kills[seed])} kills" for seed in found) + " |",
        "|---|" + "---|" * len(found),
    ]
    told = [
        {claim.what: f"{'yes' if claim.holds else '**NO**'}: {claim.found}" for claim in each}
        for each in found.values()
    ]
    for what in dict.fromkeys(what for each in told for what in each):
        cells = [each.get(what, "not looked at") for each in told]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Where, and who",
        "",
        "| phase | instant | process | alone | with another | everything |",
        "|---|---|---|---|---|---|",
    ]
    for instant in (*PLACES, *MOMENTS):
        own = [kill for kill in every if kill.instant == instant]
        counts = Counter(EVERYTHING if EVERYTHING in kill.victims else len(kill.victims) for kill in own)
        lines.append(
            f"| {instant.phase} | {instant.what} | {instant.process} | {counts[1]} | {counts[2]} | {counts[EVERYTHING]} |"
        )
    lines += [
        "",
        "## Every kill",
        "",
        "| job | step | phase | instant | killed | while recovering |",
        "|---|---|---|---|---|---|",
    ]
    for seed, each in kills.items():
        for kill in each:
            lines.append(
                f"| {seed} | {kill.step} | {kill.instant.phase} | {kill.instant.what} | {', '.join(kill.victims)} | {'yes' if kill.recovering else ''} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
