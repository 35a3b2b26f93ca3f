"""What a plan will take, before anything is spent: tokens, wall time as a range, and money where the operator set prices.

Time comes from tokens per second that this machine was seen to reach. Several jobs at a time share its cores, so that they shorten the
work by less than their number, or not at all: the range spans both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith.agent.document import Document, Estimate, Range
from tunesmith.agent.durations import duration, duration_range
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.catalog.prices import Prices
from tunesmith.errors import FailedPrecondition

Speeds = Mapping[tuple[str, str], Sequence[tuple[float, str]]]
"""(base model, work) -> (tokens per second, source), newest first; work is `sft`, `dpo`, `score` (all tokens) or `generate` (sampled)."""

MEASURED = "measured"
"""Source of a short measurement, made because no job was seen yet."""
MEASURED_SPREAD = 1.8
"""A short measurement is taken to be wrong by at most this factor."""
RECORDED_SPREAD = 1.2
"""And what jobs were seen to do, beyond the fastest and the slowest of them."""
GENERATE_SHARE = (0.05, 1.0)
"""Sampled tokens per second as shares of trained ones, where no generation was seen yet: it depends on batch and length."""
JOB_SECONDS = Range(low=2.0, high=20.0)
"""Start and end of a training job: model load, preparation, evaluations, the adapter."""
EVALUATION_SECONDS = Range(low=1.0, high=8.0)
"""Start and end of an evaluation job: its host, the model's load."""
DEPLOYMENT_SECONDS = Range(low=1.0, high=30.0)
BASE_TEMPERATURES = 4
"""A base model is evaluated at 0, 0.3, 0.7 and 1."""


@dataclass(frozen=True)
class BaseFacts:
    """Tokens of the rows under one base model's tokenizer, each for one pass."""

    tune_tokens: int
    """Trained tokens of the rows of the sweep: what a price counts."""
    full_tokens: int
    """Trained tokens of the rows of the final run."""
    tune_read: int
    """All tokens of the rows of the sweep: what takes the time."""
    full_read: int
    """All tokens of the rows of the final run."""
    select_tokens: int
    """All tokens (prompt and answer) of the rows that choose."""
    report_tokens: int
    """All tokens of the rows of the report; of a pair, both sequences."""
    answer_tokens: Range
    """Of one sampled answer: the data's mean, to what a base model may ramble."""
    tune_rows: int = 0
    """Rows of the sweep."""


@dataclass(frozen=True)
class Answered:
    """Answers of one model to every prompt, of which preference pairs are made."""

    base_model: str
    """Its base, whose speed and price it has."""
    rows: int
    prompt_tokens: int
    """Of all rows."""
    answer_tokens: Range
    """Of one answer."""


@dataclass(frozen=True)
class PlanFacts:
    """What an estimate needs to know. The plan has every field decided, its grid as points."""

    plan: Plan
    bases: Mapping[str, BaseFacts]
    """By base model of the plan."""
    select_rows: int
    report_rows: int
    tuning_jobs: int
    """Training jobs that this machine runs at a time."""
    evaluation_jobs: int
    """Evaluations that it runs at a time."""
    cores: int = 1
    threads: int = 1
    """Of each heavy process."""


@dataclass(frozen=True)
class _Work:
    """Tokens of one phase on one base model, and the jobs that it is in."""

    base_model: str
    kind: str
    """The work, as in `Speeds`."""
    phase: str
    tokens: Range
    """Tokens that `Speeds` counts for this kind of work: of training those that are read, of generation those that are sampled."""
    billed: Range
    """Tokens that a price counts: of training those that are trained, of generation prompts too."""
    jobs: int
    at_once: int


def estimate(facts: PlanFacts, speeds: Speeds, prices: Prices) -> Estimate:
    """Time, tokens and money of a plan.

    Raises FailedPrecondition when nothing is known of a base model's training speed.
    """
    works = _works(facts)
    by_phase: dict[str, Range] = {}
    training, inference = Range(low=0, high=0), Range(low=0, high=0)
    training_cost, inference_cost = Range(low=0, high=0), Range(low=0, high=0)
    training_tokens = inference_tokens = 0.0
    basis: list[str] = []
    for work in works:
        rate, source = _rate(work, speeds)
        seconds = _seconds(work, rate, facts)
        price = prices.of(work.base_model)
        by_phase[work.phase] = _plus(by_phase.get(work.phase), seconds)
        if work.kind in ("sft", "dpo"):
            training, training_tokens = _plus(training, seconds), training_tokens + work.billed.high
            training_cost = _plus(training_cost, _money(work.billed, price.training_per_million, seconds, prices))
        else:
            inference, inference_tokens = _plus(inference, seconds), inference_tokens + work.billed.high
            inference_cost = _plus(inference_cost, _money(work.billed, price.inference_per_million, seconds, prices))
        basis.append(source)
    if facts.plan.deploy:
        by_phase["deployment"] = DEPLOYMENT_SECONDS
    total = Range(low=0, high=0)
    for seconds in by_phase.values():
        total = _plus(total, seconds)
    priced = prices.currency is not None
    return Estimate(
        training_seconds=training,
        inference_seconds=inference,
        total_seconds=total,
        training_tokens=round(training_tokens),
        inference_tokens=round(inference_tokens),
        currency=prices.currency,
        training_cost=training_cost if priced else None,
        inference_cost=inference_cost if priced else None,
        total_cost=_plus(training_cost, inference_cost) if priced else None,
        by_phase=by_phase,
        basis="; ".join(dict.fromkeys(basis)),
    )


def estimate_delta(facts: PlanFacts, answered: Sequence[Answered], speeds: Speeds, prices: Prices) -> Estimate:
    """The estimate of a plan whose preference pairs are still to be made (delta learning): from short answers to the longest ones.

    Args:
        facts: with the tokens of the prompts alone.
        answered: the strong and the weak model.
        speeds: of training and of generation, of these models, too.
        prices: of the operator.
    """
    low, high = (
        estimate(_with_answers(facts, [end(each.answer_tokens) for each in answered]), speeds, prices)
        for end in (lambda it: it.low, lambda it: it.high)
    )
    found = high.model_copy(
        update={
            "by_phase": {
                name: Range(low=low.by_phase[name].low, high=span.high) for name, span in high.by_phase.items()
            },
            **{
                name: Range(low=getattr(low, name).low, high=getattr(high, name).high)
                for name in ("training_seconds", "inference_seconds", "total_seconds")
            },
            **{
                name: Range(low=getattr(low, name).low, high=getattr(high, name).high)
                for name in ("training_cost", "inference_cost", "total_cost")
                if getattr(high, name) is not None
            },
        }
    )
    return _plus_answers(found, facts, answered, speeds, prices)


def _with_answers(facts: PlanFacts, lengths: Sequence[float]) -> PlanFacts:
    """The same rows as pairs: the prompt twice, with an answer of each model, all of which is trained on."""
    both = sum(lengths)
    bases = {}
    for name, numbers in facts.bases.items():
        rows = {"tune": numbers.tune_rows, "select": facts.select_rows, "report": facts.report_rows}
        rows["full"] = rows["tune"] + rows["select"]
        bases[name] = replace(
            numbers,
            tune_tokens=round(both * rows["tune"]),
            full_tokens=round(both * rows["full"]),
            tune_read=round(2 * numbers.tune_read + both * rows["tune"]),
            full_read=round(2 * numbers.full_read + both * rows["full"]),
            report_tokens=round(2 * numbers.report_tokens + both * rows["report"]),
        )
    return replace(facts, bases=bases)


def _plus_answers(
    found: Estimate, facts: PlanFacts, answered: Sequence[Answered], speeds: Speeds, prices: Prices
) -> Estimate:
    """With what making the pairs takes, which is part of the sweep."""
    phases = dict(found.by_phase)
    inference, total = found.inference_seconds, found.total_seconds
    cost, total_cost, tokens, basis = found.inference_cost, found.total_cost, 0.0, [found.basis]
    for each in answered:
        sampled = Range(low=each.rows * each.answer_tokens.low, high=each.rows * each.answer_tokens.high)
        billed = Range(low=each.prompt_tokens + sampled.low, high=each.prompt_tokens + sampled.high)
        work = _Work(each.base_model, "generate", "sweep", sampled, billed, 1, 1)
        rate, source = _rate(work, speeds)
        seconds = _seconds(work, rate, facts)
        phases["sweep"], inference, total = (_plus(one, seconds) for one in (phases["sweep"], inference, total))
        tokens += billed.high
        if cost is not None and total_cost is not None:
            money = _money(billed, prices.of(each.base_model).inference_per_million, seconds, prices)
            cost, total_cost = _plus(cost, money), _plus(total_cost, money)
        basis += [] if source in found.basis else [source]
    return found.model_copy(
        update={
            "by_phase": phases,
            "inference_seconds": inference,
            "total_seconds": total,
            "inference_cost": cost,
            "total_cost": total_cost,
            "inference_tokens": found.inference_tokens + round(tokens),
            "basis": "; ".join(dict.fromkeys(basis)),
        }
    )


def actual(document: Document, prices: Prices, *, inference_tokens: int = 0) -> Estimate:
    """What a session took so far, in the shape of an estimate; each range is one value.

    Args:
        inference_tokens: tokens that evaluations read and sampled, where they were counted.
    """
    spent = document.spent
    runs = [
        (result.candidate.base_model, result.run) for result in document.candidates if result.candidate and result.run
    ]
    winner = next((one.candidate for one in document.candidates if one.number == document.winner and one.number), None)
    if document.final and winner:
        runs.append((winner.base_model, document.final))
    tokens = sum(run.tokens or 0 for _, run in runs)
    training = sum(run.seconds or 0.0 for _, run in runs)
    total = sum(spent.values())
    inference = spent.get("evaluation", 0.0)
    training_cost = sum((run.tokens or 0) / 1e6 * prices.of(base).training_per_million for base, run in runs)
    inference_cost = (
        inference_tokens / 1e6 * (prices.of(winner.base_model) if winner else prices.default).inference_per_million
    )
    hourly = prices.machine_hour / 3600
    priced = prices.currency is not None
    return Estimate(
        training_seconds=_exactly(training),
        inference_seconds=_exactly(inference),
        total_seconds=_exactly(total),
        training_tokens=tokens,
        inference_tokens=inference_tokens,
        currency=prices.currency,
        training_cost=_exactly(training_cost + hourly * max(0.0, total - inference)) if priced else None,
        inference_cost=_exactly(inference_cost + hourly * inference) if priced else None,
        total_cost=_exactly(training_cost + inference_cost + hourly * total) if priced else None,
        by_phase={phase: _exactly(seconds) for phase, seconds in spent.items()},
        basis="what the jobs of this session took",
    )


def training_costs(document: Document, prices: Prices) -> dict[int, float]:
    """Cost of each candidate's training, by its number; empty where no price is set."""
    if prices.currency is None:
        return {}
    costs = {}
    for result in document.candidates:
        if result.number and result.candidate and result.run:
            tokens = (result.run.tokens or 0) / 1e6 * prices.of(result.candidate.base_model).training_per_million
            costs[result.number] = tokens + prices.machine_hour / 3600 * (result.run.seconds or 0.0)
    return costs


def breakdown(estimate: Estimate, *, spent_seconds: float | None = None) -> str:
    """The documented breakdown as plain text: training, inference, total; time by phase; the basis; what was spent so far.

    Args:
        spent_seconds: of the session up to now; None: left out.
    """
    rows = [("", "tokens", "time", *(["cost"] if estimate.currency else []))]
    parts = (
        ("Training", f"{estimate.training_tokens:,}", estimate.training_seconds, estimate.training_cost),
        ("Inference", f"{estimate.inference_tokens:,}", estimate.inference_seconds, estimate.inference_cost),
        (
            "Total",
            f"{estimate.training_tokens + estimate.inference_tokens:,}",
            estimate.total_seconds,
            estimate.total_cost,
        ),
    )
    for name, tokens, seconds, cost in parts:
        money = [cost_range(cost, estimate.currency)] if estimate.currency and cost else []
        rows.append((name, tokens, duration_range(seconds), *money))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    phases = [f"{phase.replace('_', ' ')} {duration_range(seconds)}" for phase, seconds in estimate.by_phase.items()]
    lines.append(f"By phase: {'; '.join(phases)}.")
    if estimate.basis:
        lines.append(f"Basis: {estimate.basis}.")
    if not estimate.currency:
        lines.append("No prices are set on this platform, so the cost is time only.")
    if spent_seconds is not None:
        lines.append(f"Spent so far: {duration(spent_seconds)}.")
    return "\n".join(lines)


def cost_range(cost: Range, currency: str | None) -> str:
    """`0.10 to 0.20 USD`."""
    low, high = f"{cost.low:.2f}", f"{cost.high:.2f}"
    return f"{low if low == high else f'{low} to {high}'} {currency or ''}".rstrip()


def _works(facts: PlanFacts) -> list[_Work]:
    plan, points = facts.plan, max(1, len(facts.plan.grid.points))
    preference = plan.method in (Method.DPO, Method.ORPO)
    kind = "dpo" if preference else "sft"
    at_once = min(plan.parallel or 1, facts.tuning_jobs, points * len(facts.bases))
    epochs = plan.epochs or 1.0
    works = []
    for base, numbers in facts.bases.items():
        read, trained = (_exactly(tokens * epochs * points) for tokens in (numbers.tune_read, numbers.tune_tokens))
        works.append(_Work(base, kind, "sweep", read, trained, points, at_once))
        if plan.evaluation.path in (EvaluationPath.EVALUATOR, EvaluationPath.GENERATED):
            runs = points + BASE_TEMPERATURES
            works.append(_generation(base, "sweep", facts, numbers, runs, facts.select_rows, numbers.select_tokens))
    base, numbers = max(facts.bases.items(), key=lambda item: item[1].full_tokens)  # the dearest winner
    if plan.final_run:
        read, trained = _exactly(numbers.full_read * epochs), _exactly(numbers.full_tokens * epochs)
        works.append(_Work(base, kind, "final_run", read, trained, 1, 1))
    if plan.evaluation.path in (EvaluationPath.EVALUATOR, EvaluationPath.GENERATED):
        runs = 1 + BASE_TEMPERATURES
        works.append(_generation(base, "evaluation", facts, numbers, runs, facts.report_rows, numbers.report_tokens))
    else:
        read = _exactly(2.0 * numbers.report_tokens)  # by both models
        works.append(_Work(base, "score", "evaluation", read, read, 0, 1))
    return works


def _generation(
    base: str, phase: str, facts: PlanFacts, numbers: BaseFacts, runs: int, rows: int, row_tokens: int
) -> _Work:
    sampled = Range(low=runs * rows * numbers.answer_tokens.low, high=runs * rows * numbers.answer_tokens.high)
    billed = Range(low=runs * row_tokens + sampled.low, high=runs * row_tokens + sampled.high)
    return _Work(base, "generate", phase, sampled, billed, runs, min(facts.evaluation_jobs, runs))


def _rate(work: _Work, speeds: Speeds) -> tuple[Range, str]:
    """Tokens per second, slowest to fastest, and where that comes from in words."""
    seen = speeds.get((work.base_model, work.kind), ())
    if seen:
        rates = [rate for rate, _ in seen]
        jobs = [rate for rate, source in seen if source != MEASURED]
        spread = RECORDED_SPREAD if jobs else MEASURED_SPREAD
        rates = jobs or rates
        what = {"generate": "generation", "score": "scoring"}.get(work.kind, "training")
        told = f"{len(jobs)} earlier job{'s' * (len(jobs) != 1)}" if jobs else "a short measurement"
        return Range(low=min(rates) / spread, high=max(rates) * spread), f"{what} speed from {told} on this machine"
    trained = speeds.get((work.base_model, "sft")) or speeds.get((work.base_model, "dpo"))
    if not trained:
        raise FailedPrecondition(
            f"Nothing is known of how fast this machine runs {work.base_model}, so the plan cannot be priced. Measure it first."
        )
    rate, _ = trained[0]
    shares = GENERATE_SHARE if work.kind == "generate" else (0.5, 4.0)  # reading is a third of training's work
    what = "generation" if work.kind == "generate" else work.kind
    return Range(
        low=rate * shares[0], high=rate * shares[1]
    ), f"{what} speed guessed from training's, none was seen yet"


def _seconds(work: _Work, rate: Range, facts: PlanFacts) -> Range:
    """Wall time: at best as many jobs at a time as cores allow, at worst one after the other's equivalent."""
    fixed = EVALUATION_SECONDS if work.kind == "generate" else JOB_SECONDS
    gain = max(1.0, min(float(work.at_once), facts.cores / max(1, facts.threads)))
    rounds = -(-work.jobs // max(1, work.at_once))
    low = work.tokens.low / rate.high / gain + rounds * fixed.low
    return Range(low=low, high=work.tokens.high / rate.low + work.jobs * fixed.high)


def _money(tokens: Range, per_million: float, seconds: Range, prices: Prices) -> Range:
    hourly = prices.machine_hour / 3600
    return Range(
        low=tokens.low / 1e6 * per_million + hourly * seconds.low,
        high=tokens.high / 1e6 * per_million + hourly * seconds.high,
    )


def _plus(first: Range | None, second: Range) -> Range:
    return Range(low=first.low + second.low, high=first.high + second.high) if first else second


def _exactly(value: float) -> Range:
    return Range(low=value, high=value)
