"""What the candidates and their base models did on the rows that choose, and the scoreboard that comes of it.

Losses by row come from the training jobs themselves (step 0 is the base model); scores from evaluation jobs, of a base model at the best
of four temperatures.
"""

from __future__ import annotations

import asyncio
import json

from tunesmith.agent import scoreboard
from tunesmith.agent.cost import training_costs
from tunesmith.agent.document import CandidateResult, Document, EventKind
from tunesmith.agent.plan import EvaluationPath
from tunesmith.agent.scoreboard import Measured, Metric
from tunesmith.agent.tables import scoreboard_table
from tunesmith.catalog.prices import load_prices
from tunesmith.jobs.session import evaluations, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.losses import RowLoss
from tunesmith.schemas.names import short_id


def metric_of(desk: Desk) -> Metric:
    """What decides under this plan."""
    return "loss" if desk.plan.evaluation.path is EvaluationPath.VALIDATION_LOSS else "score"


async def compare(desk: Desk) -> None:
    """Fill the scoreboard, with the winner or none; done once."""
    if desk.document.winner is not None:
        return
    metric = metric_of(desk)
    results = [result for result in desk.document.candidates if result.number]
    losses: dict[int, list[RowLoss]] = {}
    base_losses: dict[str, list[RowLoss]] = {}
    for result in results:
        if not result.failed and result.candidate is not None:
            losses[result.number], before = await _losses(desk, result)
            base_losses.setdefault(result.candidate.base_model, before)
    scores, base_scores, failures = await _scores(desk, results) if metric == "score" else ({}, {}, {})
    bases = [
        Measured.of_base(model, base_losses.get(model, ()), base_scores.get(model, ()), failures.get(model, ""))
        for model in desk.plan.base_models
    ]
    measured = []
    for result in results:
        assert result.candidate is not None
        number = result.number
        failed = result.failed or failures.get(f"c{number}", "")
        measured.append(Measured(result.candidate, losses.get(number, ()), scores.get(number, ()), result.run, failed))
    # Minutes with very many rows: the worker's other jobs go on meanwhile, and keep their leases.
    board = await asyncio.to_thread(scoreboard.judge, bases, measured, metric)

    def edit(document: Document) -> list[Event]:
        document.candidates, document.winner, document.reason = board.results, board.winner, board.reason
        return [Event("scoreboard", EventKind.RESULT, board.reason, {"winner": board.winner, "ranking": board.ranking})]

    await desk.change(edit)


def scoreboard_text(desk: Desk) -> str:
    """The scoreboard as it is shown at the gate."""
    return _table(desk, desk.document)


def _table(desk: Desk, document: Document) -> str:
    prices = load_prices(desk.settings.data_dir)
    costs = training_costs(document, prices)
    return scoreboard_table(document.candidates, winner=document.winner, costs=costs, currency=prices.currency)


async def _losses(desk: Desk, result: CandidateResult) -> tuple[list[RowLoss], list[RowLoss]]:
    """(the candidate's at its best step, its base's) losses on the rows that choose; empty where the job kept none."""
    assert result.run is not None
    job = await desk.api.get(f"{training.noun(desk.plan)}/{short_id(result.run.job)}")
    urls = {int(step): url for step, url in (job.get("evaluationRowsSignedUrls") or {}).items()}
    if not urls:
        return [], []
    best = (job.get("run") or {}).get("best_step")
    step = best if best in urls else max(urls)
    first = min(urls)
    after, before = [json.loads(await desk.api.download(urls[each]))["rows"] for each in (step, first)]
    return [row_loss(row) for row in after], [row_loss(row) for row in before] if first == 0 else []


def row_loss(row: dict[str, float | None]) -> RowLoss:
    """One line of a run's `evaluation/step-….json`. A pair of which nothing could be compared says null: it counts for nothing."""
    if "loss" not in row:
        return RowLoss(row["nats"] or 0.0, int(row["tokens"] or 0), int(row["bytes"] or 0))
    return RowLoss(0.0, tokens=0) if row["loss"] is None else RowLoss(row["loss"], margin=row.get("margin"))


async def _scores(
    desk: Desk, results: list[CandidateResult]
) -> tuple[dict[int, tuple[float | None, ...]], dict[str, tuple[float | None, ...]], dict[str, str]]:
    """(scores by candidate, by base model, why there are none by either)."""
    evaluator = desk.document.evaluator
    assert evaluator is not None
    dataset = select_prompts(desk)
    wanted = [
        evaluations.Asked(f"c{result.number}", dataset, result.run.model, f"candidate {result.number}")
        for result in results
        if not result.failed and result.run is not None
    ]
    bases = {
        model: evaluations.base_runs(f"base{number}", dataset, model, short_id(model))
        for number, model in enumerate(desk.plan.base_models, 1)
    }
    every = [*wanted, *(asked for runs in bases.values() for asked in runs)]
    found = {each.asked.suffix: each for each in await evaluations.evaluate(desk, evaluator, every, "Scoring")}
    failures = {suffix: each.failed for suffix, each in found.items() if each.failed}
    scores = {
        result.number: found[f"c{result.number}"].scores
        for result in results
        if f"c{result.number}" in found and not found[f"c{result.number}"].failed
    }
    base_scores = {}
    for model, runs in bases.items():
        usable = [found[asked.suffix] for asked in runs if not found[asked.suffix].failed]
        if usable:
            base_scores[model] = evaluations.best_temperature(usable).scores
        else:
            failures[model] = found[runs[0].suffix].failed
    return scores, base_scores, failures


def select_prompts(desk: Desk) -> str:
    """The dataset of the rows that choose, as an evaluator takes them."""
    part = staging.SELECT_PROMPTS if training.is_preference(desk.plan) else staging.SELECT
    return desk.document.datasets[part]
