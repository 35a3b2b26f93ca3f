"""What a job will take, before it is created: steps, tokens, time and money, as ranges, with what they assume in words.

Speed and lengths come from what earlier jobs did on this machine; where none ran, from the model's size, and the range is wide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.agent.cost import GENERATE_SHARE
from tunesmith.catalog.prices import Prices
from tunesmith.db.observed_runs import ObservedRun

START_SECONDS = (5.0, 60.0)
"""Start and end of a job: host, models, adapter."""
EARLIER_SPREAD = 1.3
"""How far a job may be from what earlier ones did."""
FLOPS_PER_CORE = (1e9, 3e10)
"""Arithmetic that one CPU core is taken to reach, where nothing was seen: from small matrices to large ones."""
TRAINED_SHARE = (0.2, 1.0)
"""Trained over sampled tokens where no job was seen: groups whose scores are equal are dropped."""


@dataclass(frozen=True)
class Span:
    """From low to high."""

    low: float
    high: float

    def __mul__(self, factor: float) -> Span:
        return Span(self.low * factor, self.high * factor)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def wire(self) -> dict[str, int]:
        """Two significant digits: an estimate knows no more."""
        return {"low": _rounded(self.low, math.floor), "high": _rounded(self.high, math.ceil)}


@dataclass(frozen=True)
class Machine:
    """What is known of speed here."""

    generated_per_second: Sequence[float] = ()
    """Sampled tokens, as evaluations of the base model reached them."""
    trained_per_second: Sequence[float] = ()
    """Tokens of training, as jobs reached them."""
    parameters: int | None = None
    """Of the base model; None where its weights are not here."""
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True)
class RftWork:
    """What an RFT job is about to do."""

    rows: int
    epochs: int
    chunk_size: int | None
    n: int
    max_tokens: int
    prompt_tokens: float
    """Of one row, mean."""
    prompt_tokens_known: bool
    """Counted with the model's tokenizer; else guessed from the text's length."""
    evaluated_rollouts: int
    evaluator: str


def steps_of(rows: int, epochs: int, chunk_size: int | None) -> int:
    """Optimizer steps of an RFT job, at most: chunks of its rows; a last chunk shorter than half joins the one before it."""
    size = min(chunk_size or rows, rows)
    cuts, rest = divmod(rows, size)
    return epochs * (cuts + (1 if rest and (rest * 2 >= size or not cuts) else 0))


def estimate_rft(
    work: RftWork, base_model: str, runs: Sequence[ObservedRun], machine: Machine, prices: Prices
) -> dict[str, Any]:
    """The answer of `reinforcementFineTuningJobs:estimate`.

    Args:
        work: what is to be done.
        base_model: catalogue name, for prices.
        runs: earlier jobs on it; those of the same evaluator say more than others.
        machine: speeds.
        prices: of the operator.
    """
    alike = [run for run in runs if run.evaluator == work.evaluator] or list(runs)
    assumed: list[str] = []
    rollouts = work.rows * work.epochs * work.n
    every = rollouts + work.evaluated_rollouts
    if alike:
        whose = "of this evaluator" if alike[0].evaluator == work.evaluator else "on this base model"
        assumed.append(f"Answers are as long as those of {_jobs(len(alike))} {whose}, and take as many calls.")
        longest = max(run.turns_mean for run in alike) * work.max_tokens
        low, high = min(run.sampled_mean for run in alike), max(run.sampled_mean for run in alike)
        answer = Span(low / EARLIER_SPREAD, min(high * EARLIER_SPREAD, max(longest, high)))
        turns = Span(1.0, max(1.0, *(run.turns_mean for run in alike)))
        share = Span(min(run.trained_share for run in alike) / EARLIER_SPREAD, 1.0)
    else:
        assumed.append(
            f"No earlier job says how long answers get: from a tenth of the longest completion ({work.max_tokens}) to all of it."
        )
        assumed.append("One model call a rollout; agents that call more often read and sample more.")
        answer, turns, share = Span(work.max_tokens / 10, work.max_tokens), Span(1.0, 1.0), Span(*TRAINED_SHARE)
    if not work.prompt_tokens_known:
        assumed.append(
            "Prompts are counted as four characters a token: the model's tokenizer is not on this machine yet, or the evaluator adapts the rows."
        )
    prompts = Span(every * work.prompt_tokens * turns.low, every * work.prompt_tokens * turns.high)
    if not work.prompt_tokens_known:
        prompts = Span(prompts.low / 1.5, prompts.high * 1.5)
    sampled, trained = answer * every, Span(answer.low * rollouts * share.low, answer.high * rollouts * share.high)
    assumed.append("Groups whose scores are all equal are not trained.")
    if work.evaluated_rollouts:
        assumed.append(f"{work.evaluated_rollouts} rollouts of held-out evaluations are counted in tokens and time.")
    seconds = _rft_seconds(alike, sampled, trained, machine, assumed)
    cost = _cost(base_model, prices, trained, prompts + sampled, seconds)
    return {
        "steps": steps_of(work.rows, work.epochs, work.chunk_size),
        "rollouts": rollouts,
        "promptTokens": prompts.wire(),
        "sampledTokens": sampled.wire(),
        "trainedTokens": trained.wire(),
        "seconds": seconds.wire() if seconds else None,
        "cost": cost,
        "assumptions": assumed,
    }


def estimate_tuning(
    *,
    rows: int,
    epochs: float,
    batch: int,
    tokens_per_row: float,
    trained_per_row: float,
    tokens_known: bool,
    kind: str,
    base_model: str,
    machine: Machine,
    prices: Prices,
) -> dict[str, Any]:
    """The answer of `supervisedFineTuningJobs:estimate` and `dpoJobs:estimate`.

    Args:
        rows: that are trained on.
        epochs: passes, also parts of one.
        batch: rows of an optimizer step.
        tokens_per_row: all tokens of a row (both answers of a pair), as far as they are trained on.
        trained_per_row: those that count in the loss.
        tokens_known: counted with the model's tokenizer; else guessed from the text's length.
        kind: `SFT` or `DPO`.
        base_model: catalogue name.
        machine: speeds; `trained_per_second` counts all tokens.
        prices: of the operator.
    """
    spread = 1.05 if tokens_known else 1.5
    passes = rows * epochs
    read = Span(passes * tokens_per_row / spread, passes * tokens_per_row * spread)
    trained = Span(passes * trained_per_row / spread, passes * trained_per_row * spread)
    given = Span(max(0.0, read.low - trained.low), max(0.0, read.high - trained.high))
    assumed = []
    if tokens_known:
        assumed.append("Tokens are counted on a sample of the rows, with the model's tokenizer and chat template.")
    else:
        assumed.append(
            "Tokens are guessed from the text's length, four characters each: the model's tokenizer is not on this machine yet."
        )
    rate = _training_rate(machine, assumed, kind)
    seconds = Span(read.low / rate.high, read.high / rate.low) + Span(*START_SECONDS) if rate else None
    return {
        "steps": max(1, math.ceil(rows / batch * epochs)),
        "rollouts": 0,
        "promptTokens": given.wire(),
        "sampledTokens": {"low": 0, "high": 0},
        "trainedTokens": trained.wire(),
        "seconds": seconds.wire() if seconds else None,
        "cost": _cost(base_model, prices, trained, Span(0.0, 0.0), seconds),
        "assumptions": assumed,
    }


def _rft_seconds(
    runs: Sequence[ObservedRun], sampled: Span, trained: Span, machine: Machine, assumed: list[str]
) -> Span | None:
    if runs:
        rates = [run.sampled_per_second for run in runs]
        slow, fast = min(rates) / EARLIER_SPREAD, max(rates) * EARLIER_SPREAD
        assumed.append(f"Speed is that of {_jobs(len(runs))} on this machine, the evaluator's own time included.")
        return Span(sampled.low / fast, sampled.high / slow) + Span(*START_SECONDS)
    training = _training_rate(machine, assumed, "training")
    if training is None:
        return None
    if machine.generated_per_second:
        rates = machine.generated_per_second
        generation = Span(min(rates) / EARLIER_SPREAD, max(rates) * EARLIER_SPREAD)
    else:
        generation = (
            training * 3.0
            if not machine.trained_per_second
            else Span(training.low * GENERATE_SHARE[0], training.high * GENERATE_SHARE[1])
        )
    assumed.append("The evaluator and the agent take no time of their own.")
    rolling = Span(sampled.low / generation.high, sampled.high / generation.low)
    return rolling + Span(trained.low / training.high, trained.high / training.low) + Span(*START_SECONDS)


def _training_rate(machine: Machine, assumed: list[str], what: str) -> Span | None:
    """Tokens of training per second."""
    if machine.trained_per_second:
        rates = machine.trained_per_second
        assumed.append(f"Speed of {what} is that of {_jobs(len(rates))} on this machine.")
        return Span(min(rates) / EARLIER_SPREAD, max(rates) * EARLIER_SPREAD)
    if machine.parameters is None:
        assumed.append(
            "Nothing is known of the model's speed: it is not on this machine yet, so there is no time. Its first job tells."
        )
        return None
    assumed.append(
        f"No job ran on this model here: time is guessed from its {machine.parameters:,} parameters and {machine.cores} CPU cores, and may "
        "be far off. A GPU is faster."
    )
    per_token = 6.0 * machine.parameters
    return Span(FLOPS_PER_CORE[0] * machine.cores / per_token, FLOPS_PER_CORE[1] * machine.cores / per_token)


def _cost(
    base_model: str, prices: Prices, trained: Span, inferred: Span, seconds: Span | None
) -> dict[str, Any] | None:
    if prices.currency is None or (seconds is None and prices.machine_hour):
        return None
    price, hours = prices.of(base_model), (seconds or Span(0.0, 0.0)) * (1 / 3600)
    cost = trained * (price.training_per_million / 1e6) + inferred * (price.inference_per_million / 1e6)
    cost += hours * prices.machine_hour
    return {"low": float(f"{cost.low:.2g}"), "high": float(f"{cost.high:.2g}"), "currency": prices.currency}


def _jobs(count: int) -> str:
    return f"{count} earlier job{'s' * (count != 1)}"


def _rounded(value: float, towards: Callable[[float], int]) -> int:
    if value <= 0:
        return 0
    unit = 10.0 ** max(0, math.floor(math.log10(value)) - 1)
    return int(towards(value / unit) * unit)
