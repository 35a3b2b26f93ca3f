"""What was measured, judged against its targets and written down."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "bench_sft.md"
DEFAULTS = "TRL, its defaults"
LOSS_TOLERANCE = 1e-4
"""Of the losses of the first steps, relative: both sum in float32, in another order."""
COMPARED_STEPS = 2


@dataclass(frozen=True)
class Run:
    """One contender in one round."""

    tokens_per_second: float
    """Trained tokens by CPU-seconds of the steps, the first left out."""
    losses: list[float]
    """Of each step."""
    trained_tokens: int
    """Of all steps."""
    peak_bytes: int
    cpu_seconds: float
    """Of the whole process: start, data, training, writing."""

    @classmethod
    def of(cls, steps: list[dict[str, Any]], peak_bytes: int, cpu_seconds: float) -> Run:
        """From steps of {"tokens", "cpu_seconds", "loss"}."""
        timed = steps[1:]
        speed = sum(step["tokens"] for step in timed) / sum(step["cpu_seconds"] for step in timed)
        tokens = sum(step["tokens"] for step in steps)
        return cls(speed, [step["loss"] for step in steps], tokens, peak_bytes, cpu_seconds)


@dataclass(frozen=True)
class Preferences:
    """What both say of the same pairs: DPO's loss step by step, and ORPO's term of the odds ratio."""

    dpo: list[float]
    their_dpo: list[float]
    orpo: list[float]
    their_orpo: list[float]


@dataclass
class Figures:
    """Everything that was measured on one model."""

    model: str
    parameters: int
    rows: int
    batch: int
    """Rows of an optimizer step."""
    tokens: int
    """Of all rows, prompts included."""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    preferences: Preferences | None = None

    def add(self, contender: str, run: Run) -> None:
        """Add a round."""
        self.runs.setdefault(contender, []).append(run)

    def middle(self, contender: str, what: str) -> float:
        """The median of a contender's rounds."""
        return median(getattr(run, what) for run in self.runs[contender])

    def ratio(self, contender: str, what: str) -> float:
        """Ours by the contender's: within each round, the median of these."""
        return median(
            getattr(ours, what) / getattr(theirs, what)
            for ours, theirs in zip(self.runs["ours"], self.runs[contender], strict=True)
        )

    @property
    def packed(self) -> str:
        """TRL's fastest packing."""
        return max(
            (name for name in self.runs if "packed" in name), key=lambda name: self.middle(name, "tokens_per_second")
        )

    @property
    def fastest(self) -> str:
        """TRL's fastest of all."""
        return max(
            (name for name in self.runs if name != "ours"), key=lambda name: self.middle(name, "tokens_per_second")
        )

    @property
    def loss_difference(self) -> float:
        """Largest relative difference of the first losses, ours against TRL's on the same batches."""
        ours, theirs = self.runs["ours"][0].losses, self.runs[DEFAULTS][0].losses
        return _difference(ours[:COMPARED_STEPS], theirs[:COMPARED_STEPS])


@dataclass(frozen=True)
class Target:
    """What must hold."""

    what: str
    measured: float
    bound: str
    holds: bool


def report(figures: list[Figures], rounds: int, write: bool) -> bool:
    """Print everything, write it where asked, and say whether every target holds."""
    targets = [target for one in figures for target in _targets(one)]
    text = "\n".join(_lines(figures, targets, rounds)) + "\n"
    print(text)
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    return all(target.holds for target in targets)


def _targets(one: Figures) -> list[Target]:
    found = []
    for what, peer, least in (
        (f"speed, ours / {one.packed}", one.packed, 1.0),
        (f"speed, ours / {DEFAULTS}", DEFAULTS, 1.3),
        (f"speed, ours / TRL's fastest ({one.fastest.removeprefix('TRL, ')})", one.fastest, 1.0),
    ):
        ratio = one.ratio(peer, "tokens_per_second")
        found.append(Target(f"{one.model}: {what}", ratio, f">= {least:g}", ratio >= least))
    for peer in (one.packed, DEFAULTS):
        ratio = one.ratio(peer, "peak_bytes")
        found.append(Target(f"{one.model}: peak memory, ours / {peer}", ratio, "<= 1", ratio <= 1))
    differences = {f"losses of the first {COMPARED_STEPS} steps": one.loss_difference}
    if one.preferences is not None:
        said = one.preferences
        differences[f"DPO, losses of {len(said.dpo)} steps"] = _difference(said.dpo, said.their_dpo)
        differences["ORPO, odds ratio term"] = _difference(said.orpo, said.their_orpo)
    for what, value in differences.items():
        name = f"{one.model}: {what}, largest relative difference"
        found.append(Target(name, value, f"<= {LOSS_TOLERANCE:g}", value <= LOSS_TOLERANCE))
    return found


def _difference(ours: list[float], theirs: list[float]) -> float:
    """The largest relative one."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def _lines(figures: list[Figures], targets: list[Target], rounds: int) -> list[str]:
    lines = [
        "# What supervised fine-tuning costs",
        "",
        "`make bench-sft` wrote this.",
        "",
        f"{rounds} round(s), contenders in turn, one thread each; Python {platform.python_version()}, {platform.machine()}, float32.",
        "LoRA of rank 16 on all linear layers, loss on the answers, the same rows in the same order (TRL's packing and",
        "sorting choose their own), handed to TRL as token ids. Speed: trained tokens by CPU-seconds of the steps but the first.",
        "The whole process counts start, data, training and writing. Medians over the rounds.",
    ]
    for one in figures:
        lines += [
            "",
            f"## {one.model}: {one.parameters / 1e6:.1f} million parameters, {one.rows} rows of {one.tokens / one.rows:.0f} tokens, {one.batch} a step",
            "",
            "| contender | trained tokens a CPU second | of ours | trained tokens | peak memory MB | CPU s of the whole process |",
            "|---|---|---|---|---|---|",
        ]
        for name in one.runs:
            speed = one.middle(name, "tokens_per_second")
            lines.append(
                f"| {name} | {speed:.0f} | {1 / one.ratio(name, 'tokens_per_second'):.2f} | "
                f"{one.middle(name, 'trained_tokens'):.0f} | {one.middle(name, 'peak_bytes') / 1e6:.0f} | "
                f"{one.middle(name, 'cpu_seconds'):.1f} |"
            )
    lines += ["", "| target | measured | bound | |", "|---|---|---|---|"]
    for target in targets:
        shown = f"{target.measured:.2f}" if target.measured > 0.01 else f"{target.measured:.1e}"
        lines.append(f"| {target.what} | {shown} | {target.bound} | {'pass' if target.holds else 'FAIL'} |")
    return lines
