"""The price of a plan: the tokens of its parts under each tokenizer, this machine's speed, the operator's prices."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from tunesmith.agent import cost
from tunesmith.agent.document import Estimate, Range
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.agent.rows import prompt_key
from tunesmith.agent.tokens import TokenCounter, Tokens
from tunesmith.catalog import BaseModelEntry
from tunesmith.catalog.prices import load_prices
from tunesmith.errors import InvalidArgument
from tunesmith.jobs.session import measuring, staging
from tunesmith.jobs.session.desk import Desk
from tunesmith.rendering.renderer import Renderer


async def estimate(desk: Desk, plan: Plan, bases: Mapping[str, BaseModelEntry], cut: staging.Cut) -> Estimate:
    """What the plan, every field decided, will take. Measures the machine where no job of a base model was seen yet."""
    await desk.say("Estimating what the plan takes.")
    training = "dpo" if plan.method in (Method.DPO, Method.ORPO) else "sft"
    inference = "score" if plan.evaluation.path is EvaluationPath.VALIDATION_LOSS else "generate"
    speeds: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for name in plan.base_models:
        for work in (training, inference):
            speeds[name, work] = await measuring.throughput(desk, bases[name], work)
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
    return cost.estimate(facts, speeds, load_prices(desk.settings.data_dir))


def _base_facts(desk: Desk, plan: Plan, base: BaseModelEntry) -> cost.BaseFacts:
    renderer = Renderer.load(base.path, base.name, base.family)
    parts = (staging.TUNE, staging.FULL, staging.SELECT, staging.REPORT)
    tune, full, select, report = (_count(desk, part, renderer, plan.max_context_length) for part in parts)
    answer = select.trained / max(1, len(desk.rows(staging.SELECT)))
    return cost.BaseFacts(
        tune_tokens=tune.trained,
        full_tokens=full.trained,
        tune_read=tune.total,
        full_read=full.total,
        select_tokens=select.total,
        report_tokens=report.total,
        answer_tokens=Range(low=answer, high=max(answer, float(base.inference_max_tokens))),
    )


def _count(desk: Desk, part: str, renderer: Renderer, max_context_length: int | None) -> Tokens:
    counter = TokenCounter(renderer, max_context_length)
    for row in desk.rows(part):
        counter.count(row, prompt_key(row))
    found = counter.found()
    if found is None:
        raise InvalidArgument(f"The part {part!r} of the dataset has no rows.")
    return found
