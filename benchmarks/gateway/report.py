"""What was measured, judged against its targets and written down."""

from __future__ import annotations

import argparse
import math
import platform
from dataclasses import dataclass, field
from statistics import median

from benchmarks.gateway.material import REPO

RESULTS = REPO / "benchmarks" / "results" / "bench_gateway.md"

WHOLE_TIMES = 4
"""So many times the streamed calls are the whole ones whose CPU time is taken."""
_LEAST_SECONDS = 1e-3


@dataclass(frozen=True)
class Sample:
    """One contender in one round; seconds."""

    cpu: float
    latency: float
    """Added to the engine's own, as is the time to the first token."""
    first_token: float
    whole_latency: float
    """The engine's own included."""


@dataclass
class Figures:
    """Everything that a run measured."""

    tokens: int
    samples: dict[tuple[str, bool], list[Sample]] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)
    """CPU microseconds per token, turn by turn."""
    short: float = 0.0
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    recorded: int = 0
    expected: int = 0
    misread: int = 0
    """Records that do not read as the answer was."""

    def add(self, contender: str, stream: bool, sample: Sample) -> None:
        """Add a round."""
        self.samples.setdefault((contender, stream), []).append(sample)

    def middle(self, contender: str, stream: bool, what: str) -> float:
        """The median of a contender's rounds."""
        return median(getattr(sample, what) for sample in self.samples[contender, stream])

    def ratio(self, one: str, other: str, stream: bool, what: str) -> float:
        """One contender's figure by the other's. CPU: within each round, the median of these. What latency they add is a difference, which
        may come out as next to nothing in a round: there it is median by median, none below _LEAST_SECONDS."""
        if what != "cpu":
            return self.middle(one, stream, what) / max(self.middle(other, stream, what), _LEAST_SECONDS)
        pairs = zip(self.samples[one, stream], self.samples[other, stream], strict=False)
        return median(a.cpu / b.cpu for a, b in pairs)


@dataclass(frozen=True)
class Target:
    """One row of the verdict."""

    says: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value is within its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def report(figures: Figures, options: argparse.Namespace) -> list[Target]:
    """Print the tables, write them to benchmarks/results, and return the targets that were missed."""
    targets = list(_targets(figures))
    lines = [
        f"Answers of {figures.tokens} tokens with log-probabilities; {options.rounds} rounds of {options.calls} streamed calls per contender and {WHOLE_TIMES * options.calls} "
        "whole ones, in slices that take turns;",
        f"Python {platform.python_version()}, {platform.machine()}. CPU: all threads of the contender's process, 16 agents. Latencies: medians at",
        "64 agents that call again as soon as they are answered, less the engine's own. All figures are medians over the rounds.",
        f"The engine alone sends {figures.tokens:,} events one by one, which the agents take longer to read than what a contender sends together: what a",
        "contender adds to a streamed answer may be less than nothing, and streamed latencies are compared with the engine's included.",
        "",
        "| contender | answer | CPU ms a call | added latency ms | added time to first token ms |",
        "|---|---|---|---|---|",
    ]
    for (name, stream), _ in figures.samples.items():
        cpu, latency, first = (figures.middle(name, stream, what) * 1e3 for what in ("cpu", "latency", "first_token"))
        times = " | ".join(
            "-" if math.isnan(value) else f"{value:.0f}" for value in (latency, first if stream else latency)
        )
        lines.append(f"| {name} | {'streamed' if stream else 'whole'} | {cpu:.2f} | {times} |")
    lines += ["", "| target | measured | bound | |", "|---|---|---|---|"]
    for target in targets:
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        lines.append(f"| {target.says} | {target.value:.2f} | {bound} | {'pass' if target.met else 'FAIL'} |")
    lines += [
        "",
        f"A rollout of plain training (one call, 60 tokens, recorded): {figures.short * 1e3:.2f} ms of the gateway's CPU.",
    ]
    lines += ["", "| process | resident MB | peak MB |", "|---|---|---|"]
    lines += [f"| {name} | {now:.0f} | {peak:.0f} |" for name, (now, peak) in figures.memory.items()]
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.short:
        RESULTS.write_text("# What the gateway costs\n\n`make bench-gateway` wrote this.\n\n" + text)
    return [target for target in targets if not target.met]


def _targets(figures: Figures) -> list[Target]:
    found = []
    litellm = ("LiteLLM", False) in figures.samples
    for stream in (False, True):
        kind = "streamed" if stream else "whole"

        def ratio(one: str, other: str, what: str = "cpu", stream: bool = stream) -> float:
            return figures.ratio(one, other, stream, what)

        found.append(Target(f"CPU, passing through / forwarder, {kind}", ratio("pass-through", "forwarder"), 2.0))
        found.append(Target(f"CPU, token path / floor, {kind}", ratio("token path", "floor"), 1.5))
        if litellm:
            found.append(Target(f"CPU, LiteLLM / passing through, {kind}", ratio("LiteLLM", "pass-through"), 20, True))
        what, word = ("first_token", "time to first token") if stream else ("latency", "latency")
        found.append(
            Target(
                f"added median {word} at 64 agents, passing through / forwarder",
                ratio("pass-through", "forwarder", what),
                3,
            )
        )
        if stream:
            found.append(
                Target(
                    "median latency, streamed, at 64 agents, the engine's included, passing through / forwarder",
                    ratio("pass-through", "forwarder", "whole_latency"),
                    3,
                )
            )
    early, late = median(figures.turns[1:4]), median(figures.turns[-3:])
    found.append(Target(f"CPU a token, turn {len(figures.turns)} / turn 3", late / early, 1.2))
    found.append(Target("calls answered in full and not recorded", figures.expected - figures.recorded, 0))
    found.append(Target("records of passed-through calls that read otherwise than the answer", figures.misread, 0))
    return found
