"""Phase 4: the promoted settings on all the data, that is the rows of training and of selection; never those of the report."""

from __future__ import annotations

from tunesmith.agent.document import Document, EventKind, Phase
from tunesmith.jobs.session import children, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.promotion import promoted
from tunesmith.schemas.names import short_id


async def run_final(desk: Desk) -> Phase:
    """Train the final model, or take the candidate's where the plan skips the run."""
    winner = promoted(desk.document)
    assert winner.candidate is not None
    if not desk.plan.final_run:
        why = "the method has none" if training.is_preference(desk.plan) else "the plan skips it"
        assert winner.run is not None
        text = f"No full-data run: {why}. The model of candidate {winner.number} is the final one: {winner.run.model}."

        def take(document: Document) -> None:
            document.final = winner.run

        await desk.change(take, Event("final/skipped", EventKind.STATUS_INFO, text))
        return Phase.EVALUATION
    dataset = await staging.publish_full(desk)
    identity = training.job_id(desk, "final")
    output = short_id(desk.plan.output_model) if desk.plan.output_model else identity
    body = training.body(desk, desk.plan, winner.candidate, output=output, dataset=dataset, evaluation=None)
    text = f"Full-data run started: {training.describe(winner.candidate)}, {len(desk.rows(staging.FULL))} rows ({identity})."
    await desk.tell(Event("final/start", EventKind.STATUS_INFO, text))
    job = await children.ended(desk, training.noun(desk.plan), identity, body, "Full-data run")
    run = await children.run_of(desk, job, desk.name("models", output))

    def edit(document: Document) -> None:
        document.final = run

    await desk.change(edit)
    children.completed(job, "The full-data run")
    loss = (job.get("run") or {}).get("loss")
    shown = f"; training loss {loss:.4f}" if loss is not None else ""
    await desk.tell(Event("final/end", EventKind.RESULT, f"Full-data run ended: {run.model}{shown}."))
    return Phase.EVALUATION
