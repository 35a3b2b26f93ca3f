"""From what candidates did on the rows that choose, to a ranking, a winner or none, and the reasons; and the final comparison.

A candidate is better only when its paired p-value against its own base model, corrected for the number of candidates (Holm), is below
5 % and the difference points the right way. Six candidates that learned nothing yield no winner, whichever happens to look best.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.agent.document import CandidateResult, Comparison, Run, Score
from tunesmith.agent.plan import Candidate
from tunesmith.agent.statistics import (
    LEVEL,
    Difference,
    Loss,
    bits_per_byte,
    compare_losses,
    compare_scores,
    holm,
    loss_interval,
    score_interval,
)
from tunesmith.schemas.names import short_id

Metric = Literal["loss", "score"]
"""What decides: `loss` (lower is better) or `score`."""


@dataclass(frozen=True)
class Measured:
    """A candidate, or a base model, on the rows that choose: in the same order for all."""

    candidate: Candidate
    """Of a base model only `base_model` counts (`of_base`)."""
    losses: Sequence[Loss] = ()
    scores: Sequence[float | None] = ()
    run: Run | None = None
    failed: str = ""
    """Why it has no figures."""

    @classmethod
    def of_base(
        cls, base_model: str, losses: Sequence[Loss] = (), scores: Sequence[float | None] = (), failed: str = ""
    ) -> Measured:
        """A base model; its scores are those at its best temperature."""
        return cls(Candidate(base_model=base_model, lora_rank=0, learning_rate=0.0), losses, scores, failed=failed)


@dataclass(frozen=True)
class Scoreboard:
    """All of it, decided."""

    results: list[CandidateResult]
    """Base models (number 0), then the candidates, numbered from 1 in the order given."""
    ranking: list[int]
    """Numbers of the candidates with figures, best first."""
    winner: int
    """0: none beats its base model."""
    reason: str
    """In plain English."""


@dataclass
class _Entry:
    """A line while it is judged."""

    result: CandidateResult
    measured: Measured
    difference: Difference | None = None
    key: tuple[float, ...] = field(default=())
    """Sorts best first."""


def judge(bases: Sequence[Measured], candidates: Sequence[Measured], metric: Metric) -> Scoreboard:
    """Rank candidates and choose the winner.

    Best first: by score (or, for losses of several base models, bits per byte; else loss), of equals the lower loss, then the one that
    took less time, tokens, rank. Without a figure of its own base model a candidate cannot be better than it.
    """
    base_of = {base.candidate.base_model: base for base in bases}
    entries = [_entry(number, measured, metric) for number, measured in enumerate(candidates, start=1)]
    by_bytes = _compare_by_bytes(entries, metric)
    for entry in entries:
        if not entry.result.failed:
            entry.difference = _against(base_of.get(entry.measured.candidate.base_model), entry.measured, metric)
            entry.key = _key(entry.result, metric, by_bytes)
    tested = [(entry, entry.difference) for entry in entries if entry.difference is not None]
    for (entry, found), p in zip(tested, holm([found.p_value for _, found in tested]), strict=True):
        entry.result.p_value = p
        entry.result.better = p < LEVEL and _sign(metric) * found.difference.mean > 0
    ranked = sorted((entry for entry in entries if not entry.result.failed), key=lambda entry: entry.key)
    winner = next((entry for entry in ranked if entry.result.better), None)
    results = [_entry(0, base, metric).result for base in bases] + [entry.result for entry in entries]
    return Scoreboard(
        results=results,
        ranking=[entry.result.number for entry in ranked],
        winner=winner.result.number if winner else 0,
        reason=_why(entries, ranked, winner, len(tested), metric),
    )


def compare_held_out(
    metric: Metric,
    base: Sequence[Any],
    tuned: Sequence[Any],
    *,
    base_temperature: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> Comparison:
    """The final model against its base on rows that chose nothing: per-row losses, or scores, in the same order.

    Raises ValueError when the rows of both are not the same.
    """
    interval = loss_interval if metric == "loss" else score_interval
    found = compare_losses(base, tuned) if metric == "loss" else compare_scores(base, tuned)
    return Comparison(
        metric=metric,
        base=interval(base),
        tuned=interval(tuned),
        difference=found.difference,
        p_value=found.p_value,
        statement=statement(metric, found, base_temperature),
        base_temperature=base_temperature,
        details=dict(details or {}),
    )


def statement(metric: Metric, found: Difference, base_temperature: float | None = None) -> str:
    """One sentence that says what was shown, and no more."""
    difference, p_value = found.difference, found.p_value
    if difference.rows == 0:
        return "Nothing can be said: there is no held-out row on which both models have a figure."
    noun = "loss" if metric == "loss" else "score"
    at = f", the base model at its best temperature ({base_temperature:g})" if base_temperature is not None else ""
    figures = f"[{difference.low:+.4f}, {difference.high:+.4f}], p {_p(p_value)}, {difference.rows} held-out rows{at}"
    if p_value >= LEVEL:
        return (
            f"No difference from the base model was shown: the {noun} differs by {difference.mean:+.4f} "
            f"(95 % interval {figures})."
        )
    better = _sign(metric) * difference.mean > 0
    direction = "lower" if difference.mean < 0 else "higher"
    verdict = "better" if better else "worse"
    return (
        f"The final model is {verdict} than its base model: its {noun} is {direction} by {abs(difference.mean):.4f} "
        f"(95 % interval of the difference {figures})."
    )


def _entry(number: int, measured: Measured, metric: Metric) -> _Entry:
    candidate = measured.candidate
    result = CandidateResult(number=number, candidate=candidate, run=measured.run, failed=measured.failed)
    entry = _Entry(result, measured)
    if measured.failed:
        return entry
    if any(not math.isfinite(loss.nats) for loss in measured.losses):
        result.failed = "its loss is not a number: training diverged"
        return entry
    if sum(loss.tokens for loss in measured.losses):
        result.loss = loss_interval(measured.losses)
        result.bits_per_byte = bits_per_byte(measured.losses)
    if measured.scores:
        result.score = score_interval(measured.scores)
    deciding = result.loss if metric == "loss" else result.score
    if deciding is None or deciding.rows == 0:
        result.failed = f"it has no {metric} on the rows that choose"
    return entry


def _against(base: Measured | None, measured: Measured, metric: Metric) -> Difference | None:
    if base is None or base.failed:
        return None
    try:
        if metric == "loss":
            return compare_losses(base.losses, measured.losses)
        return compare_scores(base.scores, measured.scores)
    except ValueError:  # other rows than the base's: no honest comparison
        return None


def _compare_by_bytes(entries: Sequence[_Entry], metric: Metric) -> bool:
    """Nats per token mean different things to different tokenizers."""
    usable = [entry for entry in entries if not entry.result.failed]
    several = len({entry.measured.candidate.base_model for entry in usable}) > 1
    return metric == "loss" and several and all(entry.result.bits_per_byte is not None for entry in usable)


def _key(result: CandidateResult, metric: Metric, by_bytes: bool) -> tuple[float, ...]:
    loss = result.bits_per_byte if by_bytes else result.loss.mean if result.loss else None
    lower = math.inf if loss is None else loss
    run = result.run or Run(job="")
    cheaper = (
        math.inf if run.seconds is None else run.seconds,
        math.inf if run.tokens is None else run.tokens,
        result.candidate.lora_rank or math.inf if result.candidate else math.inf,
        result.number,
    )
    first = (-result.score.mean,) if metric == "score" and result.score else ()
    return (*first, lower, *cheaper)


def _why(entries: Sequence[_Entry], ranked: Sequence[_Entry], winner: _Entry | None, tests: int, metric: Metric) -> str:
    failures = Counter(entry.result.failed for entry in entries if entry.result.failed)
    told = "; ".join(f"{count} x {reason}" for reason, count in failures.most_common(3))
    if not ranked:
        return (
            f"No candidate has figures: all {len(entries)} failed ({told})." if entries else "There were no candidates."
        )
    failed = f" {sum(failures.values())} of {len(entries)} candidates failed ({told})." if failures else ""
    correction = f"p {{}} after Holm's correction for {tests} comparison{'s' * (tests != 1)}"
    if winner is None:
        best = ranked[0]
        if best.difference is None:
            return f"No candidate can be promoted: there are no figures of the base model to compare with.{failed}"
        difference, p = best.difference.difference, best.result.p_value or 1.0
        return (
            f"No candidate was shown to beat its base model. The best, {describe(best.result)}, differs from it by "
            f"{difference.mean:+.4f} in {metric} (95 % interval [{difference.low:+.4f}, {difference.high:+.4f}], "
            f"{correction.format(_p(p))}).{failed}"
        )
    assert winner.difference is not None
    difference = winner.difference.difference
    superlative = "lowest validation loss" if metric == "loss" else "highest score"
    among = sum(1 for entry in entries if entry.result.better)
    of = f"of the {among} candidates that beat their base model" if among > 1 else "and alone beats its base model"
    return (
        f"C{describe(winner.result)[1:]} has the {superlative} {of}: {_shown(_deciding(winner.result, metric))}, "
        f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] against the base model, "
        f"{correction.format(_p(winner.result.p_value or 0.0))}.{_runner_up(ranked, winner, metric)}{failed}"
    )


def _runner_up(ranked: Sequence[_Entry], winner: _Entry, metric: Metric) -> str:
    """Whether the next best could as well have been first."""
    others = [entry for entry in ranked if entry is not winner and entry.result.better]
    if not others:
        return ""
    found = _against(others[0].measured, winner.measured, metric)
    if found is None:
        return ""
    name = describe(others[0].result)
    mine, its = _deciding(winner.result, metric), _deciding(others[0].result, metric)
    if mine and its and mine.mean == its.mean:
        tie = "lower loss" if metric == "score" and winner.key[1] < others[0].key[1] else "lower cost"
        return f" It equals {name}; the {tie} decided."
    if found.p_value >= LEVEL:
        return f" It cannot be told from the next best, {name}, on these rows (p {_p(found.p_value)})."
    return f" It is also ahead of the next best, {name} (p {_p(found.p_value)})."


def describe(result: CandidateResult) -> str:
    """A candidate in words: `candidate 2 (qwen3-8b, rank 16, learning rate 0.0001)`."""
    one = result.candidate
    if one is None or result.number == 0:
        return f"the base model {short_id(one.base_model)}" if one else "the base model"
    kind = f"rank {one.lora_rank}" if one.lora_rank else "full parameters"
    beta = f", beta {one.beta:g}" if one.beta is not None else ""
    return f"candidate {result.number} ({short_id(one.base_model)}, {kind}, learning rate {one.learning_rate:g}{beta})"


def _deciding(result: CandidateResult, metric: Metric) -> Score | None:
    return result.loss if metric == "loss" else result.score


def _shown(score: Score | None) -> str:
    return f"{score.mean:.4f} [{score.low:.4f}, {score.high:.4f}]" if score else "-"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _sign(metric: Metric) -> int:
    return -1 if metric == "loss" else 1
