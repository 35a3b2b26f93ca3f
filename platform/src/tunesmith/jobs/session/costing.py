"""The price of a plan: the tokens of its parts under each tokenizer, this machine's speed, the operator's prices.

Where the answers of the training rows are still to be made (delta learning), the estimate spans short answers and the longest ones.
"""

from __future__ import annotations

import asyncio
import os

from tunesmith.agent import cost
from tunesmith.agent.document import Estimate, Range
from tunesmith.agent.plan import EvaluationPath, Plan
from tunesmith.agent.rows import Row, prompt_key, prompt_of
from tunesmith.agent.tokens import TokenCounter, Tokens
from tunesmith.catalog import BaseModelEntry
from tunesmith.catalog.prices import load_prices
from tunesmith.errors import InvalidArgument
from tunesmith.jobs.session import measuring, staging
from tunesmith.jobs.session.desk import Desk
from tunesmith.jobs.session.names import Resolved
from tunesmith.jobs.session.training import is_delta, is_preference
from tunesmith.rendering.renderer import Renderer

SHORT_ANSWER = 1 / 16
"""Of a model's limit on sampled tokens: what its answers take at least, where none was seen yet."""


async def estimate(desk: Desk, plan: Plan, resolved: Resolved, cut: staging.Cut) -> Estimate:
    """What the plan, every field decided, will take. Measures the machine where no job of a base model was seen yet."""
    await desk.say("Estimating what the plan takes.")
    bases, training = resolved.bases, "dpo" if is_preference(plan) else "sft"
    inference = "score" if plan.evaluation.path is EvaluationPath.VALIDATION_LOSS else "generate"
    wanted = [(bases[name], work) for name in plan.base_models for work in (training, inference)]
    wanted += [(base, work) for base in resolved.served.values() for work in (training, "generate")]
    speeds: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for base, work in wanted:
        speeds[base.name, work] = await measuring.throughput(desk, base, work)
    prices = load_prices(desk.settings.data_dir)
    counted = {name: await asyncio.to_thread(_base_facts, desk, plan, bases[name]) for name in plan.base_models}
    facts = cost.PlanFacts(
        plan=plan,
        bases=counted,
        select_rows=cut.sizes[staging.SELECT],
        report_rows=cut.sizes[staging.REPORT],
        tuning_jobs=desk.settings.concurrent_tuning_jobs,
        evaluation_jobs=desk.settings.concurrent_evaluations,
        cores=os.cpu_count() or 1,
        threads=desk.settings.torch_threads,
    )
    if not is_delta(plan):
        return cost.estimate(facts, speeds, prices)
    answered = [await asyncio.to_thread(_answered, desk, plan, base) for base in resolved.served.values()]
    return cost.estimate_delta(facts, answered, speeds, prices)


def _answered(desk: Desk, plan: Plan, base: BaseModelEntry) -> cost.Answered:
    """What one of the two models reads and says to make the pairs."""
    assert plan.dataset is not None
    renderer = Renderer.load(base.path, base.name, base.family)
    rows = staging.usable_rows(desk, plan.dataset)
    prompts = _count([{"messages": prompt_of(row)} for row in rows], renderer, None, plan.dataset).total
    return cost.Answered(base.name, len(rows), prompts, _sampled(base))


def _base_facts(desk: Desk, plan: Plan, base: BaseModelEntry) -> cost.BaseFacts:
    renderer = Renderer.load(base.path, base.name, base.family)
    parts = (staging.TUNE, staging.FULL, staging.SELECT, staging.REPORT)
    found = []
    for part in parts:
        rows = desk.rows(part)
        if is_delta(plan):  # the answers are not there yet: `estimate_delta` adds them
            rows = [{"messages": prompt_of(row)} for row in rows]
        found.append(_count(rows, renderer, plan.max_context_length, part))
    tune, full, select, report = found
    answer = select.trained / max(1, len(desk.rows(staging.SELECT)))
    sampled = _sampled(base)
    return cost.BaseFacts(
        tune_tokens=tune.trained,
        full_tokens=full.trained,
        tune_read=tune.total,
        full_read=full.total,
        select_tokens=select.total,
        report_tokens=report.total,
        answer_tokens=sampled if is_delta(plan) else Range(low=answer, high=max(answer, sampled.high)),
        tune_rows=len(desk.rows(staging.TUNE)),
    )


def _sampled(base: BaseModelEntry) -> Range:
    """Tokens of one answer, where none was seen yet."""
    return Range(low=SHORT_ANSWER * base.inference_max_tokens, high=float(base.inference_max_tokens))


def _count(rows: list[Row], renderer: Renderer, max_context_length: int | None, part: str) -> Tokens:
    counter = TokenCounter(renderer, max_context_length)
    for row in rows:
        counter.count(row, prompt_key(row))
    found = counter.found()
    if found is None:
        raise InvalidArgument(f"The part {part!r} of the dataset has no rows.")
    return found
