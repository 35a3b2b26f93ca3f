"""How often 95 % intervals hold the truth, and how often two equal models are called different: simulated, seeded.

`make check-statistics` prints both as tables, for the SDK's functions and through them for the platform's (tests/scripts/test_statistics.py
holds the two equal). Exit status 1 when a figure is outside its bounds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from eval_protocol.evaluation import intervals
from eval_protocol.evaluation.paired import paired

SIMULATIONS = 2000
ROWS = (5, 10, 20, 100)
COMPARISONS, PAIRS = 500, 200
LEAST, MEAN_LEAST = 0.90, 0.94
"""Coverage: of any one simulation, and of their mean."""
FALSE = (0.02, 0.08)
"""Share of comparisons of a model with itself that may be called significant."""
Draw = Callable[[random.Random], list[float]]


@dataclass(frozen=True)
class Scores:
    """A population of rows: `draw` gives the scores of one row's rollouts, `mean` is what an interval should hold."""

    name: str
    mean: float
    draw: Draw


def _binary(p: float, rollouts: int, correlation: float = 0.0) -> Scores:
    """0/1, where the rollouts of a row share its difficulty (beta-binomial)."""
    strength = (1 - correlation) / correlation if correlation else 0.0

    def draw(generator: random.Random) -> list[float]:
        chance = generator.betavariate(p * strength, (1 - p) * strength) if correlation else p
        return [float(generator.random() < chance) for _ in range(rollouts)]

    clustered = f", {rollouts} a row, correlation {correlation:g}" if rollouts > 1 else ""
    return Scores(f"0/1, mean {p:g}{clustered}", p, draw)


def _graded(a: float, b: float, rollouts: int, noise: float = 10.0) -> Scores:
    """Between 0 and 1: beta-distributed rows, whose rollouts scatter around the row's own mean."""

    def draw(generator: random.Random) -> list[float]:
        center = min(1 - 1e-6, max(1e-6, generator.betavariate(a, b)))
        if rollouts == 1:
            return [center]
        return [generator.betavariate(center * noise, (1 - center) * noise) for _ in range(rollouts)]

    clustered = f", {rollouts} a row" if rollouts > 1 else ""
    return Scores(f"graded, Beta({a:g}, {b:g}){clustered}", a / (a + b), draw)


POPULATIONS = (
    _binary(0.5, 1),
    _binary(0.7, 1),
    _binary(0.9, 1),
    _binary(0.5, 8, 0.3),
    _binary(0.7, 4, 0.3),
    _binary(0.8, 8, 0.5),
    _graded(1, 1, 1),
    _graded(8, 8, 1),
    _graded(0.5, 0.5, 4),
    _graded(2, 5, 8),
    _graded(5, 1, 1),
)


def coverage(scores: Scores, rows: int, simulations: int = SIMULATIONS, seed: int = 0) -> float:
    """Share of simulations in which the interval of so many rows holds the mean of the population."""
    generator = random.Random(f"{seed}/{scores.name}/{rows}")
    hits = 0
    for _ in range(simulations):
        low, high = intervals.interval([scores.draw(generator) for _ in range(rows)]) or (1.0, 0.0)
        hits += low <= scores.mean <= high
    return hits / simulations


def false_positives(scores: Scores, comparisons: int = COMPARISONS, pairs: int = PAIRS, seed: int = 0) -> float:
    """Share of comparisons of a model with itself, on so many rows, that have p < 0.05. Each row has its own difficulty."""
    generator = random.Random(f"{seed}/{scores.name}/same")
    found = 0
    for _ in range(comparisons):
        sides = [[intervals.mean(scores.draw(generator)) for _ in range(pairs)] for _ in range(2)]
        found += paired(*sides).p < 0.05
    return found / comparisons


def main() -> int:
    """Print both tables; 1 when a figure is out of bounds."""
    print(f"Coverage of 95 % intervals, {SIMULATIONS} simulations each\n")
    print(f"{'scores':<44}" + "".join(f"{f'{rows} rows':>10}" for rows in ROWS))
    wrong: list[str] = []
    found: list[float] = []
    for scores in POPULATIONS:
        shares = [coverage(scores, rows) for rows in ROWS]
        print(f"{scores.name:<44}" + "".join(f"{share:>10.1%}" for share in shares), flush=True)
        wrong += [f"{scores.name}, {rows} rows" for rows, share in zip(ROWS, shares, strict=True) if share < LEAST]
        found += shares
    print(f"{'mean of all':<44}{intervals.mean(found):>10.1%}   (at least {MEAN_LEAST:.0%}; each at least {LEAST:.0%})")
    if intervals.mean(found) < MEAN_LEAST:
        wrong.append("mean coverage")
    print(f"\nA model compared with itself on {PAIRS} rows, {COMPARISONS} times: share with p < 0.05 (2 % to 8 %)\n")
    for scores in POPULATIONS:
        share = false_positives(scores)
        print(f"{scores.name:<44}{share:>10.1%}", flush=True)
        if not FALSE[0] <= share <= FALSE[1]:
            wrong.append(f"{scores.name}: {share:.1%} called significant")
    print("\nOut of bounds: " + "; ".join(wrong) if wrong else "\nAll within bounds.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
