"""`ep logs` beside the published one at 5,000 rows, and alone at 100,000: first paint, filter, idle CPU, memory.

Both show the same rows in Debian's Chromium, one after the other in every round; medians over the rounds count, and what is said of the
two is a ratio, since machines are noisy. `--short` is a run of a minute that shows that it works.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.ui import contenders
from benchmarks.ui.browser import Figures, browser, look

RESULTS = Path(__file__).resolve().parent / "results" / "bench_ui.md"
COLUMNS = {
    "first paint s": "paint_seconds",
    "filter s": "filter_seconds",
    "deep link s": "link_seconds",
    "server idle % CPU": "server_idle",
    "page idle % CPU": "page_idle",
    "server MB": "server_mb",
    "page heap MB": "page_mb",
}
LARGEST_MB = 200.0
LARGEST_IDLE = 1.0
"""Percent of a core: near 0."""


def measure(counts: tuple[int, int], rounds: int, idle: float) -> dict[tuple[str, int], list[Figures]]:
    """Figures by contender and number of rows, one per round."""
    found: dict[tuple[str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as name, browser() as opened:
        folder = Path(name)
        with contenders.ours(folder, counts[0]) as ours, contenders.published(folder, counts[0]) as published:
            for turn in range(rounds):
                for contender in (ours, published):
                    figures = look(opened, contender, idle)
                    found.setdefault((contender.name, counts[0]), []).append(figures)
                    print(f"round {turn + 1}: {contender.name}: {figures}", flush=True)
        with contenders.ours(folder, counts[1]) as alone:
            for turn in range(rounds):
                figures = look(opened, alone, idle)
                found.setdefault((alone.name, counts[1]), []).append(figures)
                print(f"round {turn + 1}: {alone.name} at {counts[1]:,}: {figures}", flush=True)
    return found


def report(found: dict[tuple[str, int], list[Figures]], counts: tuple[int, int], rounds: int, idle: float) -> str:
    """The page of results."""
    medians = {
        key: {column: median(getattr(figures, field) for figures in runs) for column, field in COLUMNS.items()}
        for key, runs in found.items()
    }
    lines = [
        "# What the local UI costs",
        "",
        "`make bench-ui` wrote this.",
        "",
        f"The same rows in both stores; {rounds} rounds, medians; a page left alone for {idle:g} s;",
        f"Python {platform.python_version()}, {platform.machine()}. First paint: from asking for the page until the table shows rows, cache empty.",
        "Filter: from a click on the funnel beside an invocation id until its 200 rows are shown. CPU in percent of one core.",
        "",
        f"| UI | rows | {' | '.join(COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    lines += [
        f"| {name} | {count:,} | {' | '.join(f'{value:.2f}' for value in medians[name, count].values())} |"
        for name, count in medians
    ]
    ours, theirs, alone = (medians[key] for key in (("ours", counts[0]), ("published", counts[0]), ("ours", counts[1])))
    lines += ["", f"| published / ours, {counts[0]:,} rows | |", "|---|---|"]
    lines += [f"| {column} | {_ratio(theirs[column], ours[column])} |" for column in COLUMNS]
    targets = [
        (f"server memory at {counts[1]:,} rows, MB", alone["server MB"], LARGEST_MB),
        (f"server CPU idle at {counts[1]:,} rows, %", alone["server idle % CPU"], LARGEST_IDLE),
        (f"first paint, {counts[1]:,} rows of ours / {counts[0]:,} published", alone["first paint s"] / theirs["first paint s"], 1.0),
    ]  # fmt: skip
    lines += ["", "| target | measured | bound | |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {value:.2f} | <= {bound:g} | {'pass' if value <= bound else 'FAIL'} |"
        for what, value, bound in targets
    ]
    return "\n".join(lines) + "\n"


def _ratio(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f}" if ours >= 0.05 else f"ours is {ours:.2f}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer rows, one round; nothing is written")
    flags = parser.parse_args()
    counts, rounds, idle = ((1000, 5000), 1, 3.0) if flags.short else ((5000, 100_000), 3, 10.0)
    text = report(measure(counts, rounds, idle), counts, rounds, idle)
    print("\n" + text)
    if not flags.short:
        RESULTS.write_text(text)
        print(f"Written to {RESULTS}.")


if __name__ == "__main__":
    main()
