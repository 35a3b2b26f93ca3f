"""Phase 5: the final model against its base on the rows of the report, which trained nothing and chose nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from tunesmith.agent.document import Comparison, Document, EventKind, Phase
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.labels import classify, label_of
from tunesmith.agent.plan import Candidate, EvaluationPath, Method
from tunesmith.agent.scoreboard import compare_held_out
from tunesmith.catalog import resolve
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.session import evaluations, losses, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.promotion import promoted
from tunesmith.schemas.names import short_id

BASE, FINAL = "report-base", "report-final"


async def evaluate_held_out(desk: Desk) -> Phase:
    """Compare once, and say what was shown."""
    if desk.document.held_out is None:
        winner = promoted(desk.document).candidate
        final = desk.document.final
        if winner is None or final is None or final.model is None:
            raise FailedPrecondition("There is no final model to evaluate.")
        by_loss = desk.plan.evaluation.path is EvaluationPath.VALIDATION_LOSS
        found = await (_by_loss if by_loss else _by_score)(desk, winner, final.model)

        def edit(document: Document) -> None:
            document.held_out = found

        await desk.change(edit, Event("held_out", EventKind.RESULT, found.statement, found.dump()))
    return Phase.DEPLOYMENT


async def _by_loss(desk: Desk, winner: Candidate, model: str) -> Comparison:
    models, full = desk.settings.path("models"), desk.settings.path("objects", "models", "x").parent
    base = await asyncio.to_thread(resolve, winner.base_model, models_dir=models, account_models=full)
    rows = desk.rows(staging.REPORT)
    await desk.say(f"Held-out loss of {short_id(base.name)} and {short_id(model)} on {len(rows)} rows")
    if training.is_preference(desk.plan):
        before, after = await losses.preference_losses(desk, model, base, rows, winner.beta)
        right = sum(1 for each in after if (each.margin or 0.0) > 0)
        details = {"preferenceAccuracy": right / max(1, len(after))}
        return await asyncio.to_thread(compare_held_out, "loss", before, after, details=details)
    before = await losses.losses(desk, base.name, base, rows)
    after = await losses.losses(desk, model, base, rows)
    return await asyncio.to_thread(compare_held_out, "loss", before, after)


async def _by_score(desk: Desk, winner: Candidate, model: str) -> Comparison:
    evaluator = desk.document.evaluator
    assert evaluator is not None
    part = staging.REPORT_PROMPTS if training.is_preference(desk.plan) else staging.REPORT
    dataset = desk.document.datasets[part]
    base_runs = evaluations.base_runs(BASE, dataset, winner.base_model, short_id(winner.base_model))
    wanted = [*base_runs, evaluations.Asked(FINAL, dataset, model, short_id(model))]
    *bases, tuned = await evaluations.evaluate(desk, evaluator, wanted, "Held-out evaluation")
    usable = [each for each in bases if not each.failed]
    if tuned.failed or not usable:
        raise FailedPrecondition(f"The held-out evaluation failed: {tuned.failed or bases[0].failed}")
    base = evaluations.best_temperature(usable)
    details: dict[str, Any] = {"baseByTemperature": {f"{each.asked.temperature:g}": each.mean for each in usable}}
    if desk.plan.method is Method.CLASSIFICATION:
        details |= _classification(desk, base, tuned)
    if len(base.scores) != len(tuned.scores):
        raise FailedPrecondition(
            f"The held-out evaluation cannot be compared: {evaluator} made {len(base.scores)} rows of the dataset for the base "
            f"model and {len(tuned.scores)} for the final one. Its adapter must make the same rows each time."
        )
    at = base.asked.temperature
    return await asyncio.to_thread(
        compare_held_out, "score", base.scores, tuned.scores, base_temperature=at, details=details
    )


def _classification(desk: Desk, base: evaluations.Scored, tuned: evaluations.Scored) -> dict[str, Any]:
    """Accuracy by label and confusion of both models; nothing where an evaluator's adapter made other rows than there were."""
    assert desk.plan.dataset is not None
    labels = Inspection.model_validate(desk.document.inspection[desk.plan.dataset]).answers.labels
    golds = [label_of(row) or "" for row in desk.rows(staging.REPORT)]
    if not len(golds) == len(base.answers) == len(tuned.answers):
        return {}
    return {
        name: classify(zip(golds, scored.answers, strict=True), labels).dump()
        for name, scored in (("base", base), ("tuned", tuned))
    }
