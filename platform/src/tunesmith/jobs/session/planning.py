"""Phase 2: every field decided, the rows cut, the evaluator written where one is wanted, the cost estimated; then a person approves.

Nothing is trained, nobody's model is asked for an answer, before the approval. What is out of range, and what the data does not support,
is asked about here, with the valid range, and not found out by a job later.
"""

from __future__ import annotations

import re

from tunesmith.agent.document import Document, Estimate, EventKind, GateKind, Phase, Question
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.agent.questions import open_questions
from tunesmith.agent.rows import RowFormat
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.jobs.session import costing, plan_text, staging, training, writing
from tunesmith.jobs.session.decide import candidates, decide
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.gates import ask, ask_all
from tunesmith.jobs.session.inspection import inspected, is_inspected, usable_count
from tunesmith.jobs.session.names import Resolved, resolve_names
from tunesmith.schemas.names import short_id

_FIELDS = (
    ("rank", "grid.lora_ranks"),
    ("rate", "grid.learning_rates"),
    ("beta", "grid.betas"),
    ("lambda", "grid.betas"),
    ("epoch", "epochs"),
    ("batch", "batch_size_samples"),
    ("context", "max_context_length"),
)
"""Words of a refusal, and the field of the plan that they are about."""


STAGED = {"dataset", "evaluation_dataset"}
"""What was fetched into the session's folder before the approval."""
_QUESTION = re.compile(r"[A-Z`][^.?]*\?")


async def plan(desk: Desk) -> Phase:
    """Show the plan and wait for its approval; the sweep when it was given."""
    document = await desk.read()
    wish = document.approved_plan or document.plan
    if document.approved_plan is None:
        questions = open_questions(wish, document)
        if questions:
            await ask_all(desk, questions, on_plan=wish)
    resolved = await resolve_names(desk, wish)
    if document.approved_plan is not None:
        await _still_there(desk, resolved)
    elif resolved.questions:
        await ask_all(desk, resolved.questions, on_plan=document.plan)
    if not is_inspected(document, resolved.plan):
        return Phase.INSPECTION
    decided = decide(
        resolved.plan, rows=usable_count(document, resolved.plan), method=_shown_method(document, resolved.plan)
    )
    if document.approved_plan is not None:
        return await _approved(desk, decided)
    questions = await check(desk, decided) + await _taken(desk, decided)
    if questions:
        await ask_all(desk, questions, on_plan=wish)
    try:
        cut = await staging.cut(desk, decided)
    except InvalidArgument as error:
        asked = Question(field="dataset", text=f"{error.message} Which dataset shall I use?")
        await ask_all(desk, [asked], on_plan=wish)
    generated: dict[str, str] = {}
    if decided.evaluation.path is EvaluationPath.GENERATED:
        written = writing.write_evaluator(document, decided)
        if isinstance(written, Question):
            await ask_all(desk, [written], on_plan=wish)
        generated = written
    estimate = await costing.estimate(desk, decided, resolved, cut)
    text = plan_text.plan_text(decided, document=document, cut=cut, estimate=estimate, generated=generated)
    await desk.change(lambda it: _keep(it, estimate, generated), on_plan=wish)
    if decided.approvals.plan:
        await ask(desk, GateKind.PLAN, text, on_plan=wish)
    passed = Event("plan/passed", EventKind.STATUS_INFO, text)

    def approve(it: Document) -> None:
        it.approved_plan = wish.model_copy(deep=True)

    await desk.change(approve, passed, on_plan=wish)
    return await _approved(desk, decided)


async def _still_there(desk: Desk, resolved: Resolved) -> None:
    """Ask where something that the approved plan needs has gone since. Datasets do not count: their rows are in the session's folder."""
    gone = [question.text for question in resolved.questions if question.field not in STAGED]
    if gone:
        told = " ".join(_QUESTION.sub("", text).strip() for text in gone)
        text = (
            f"{told} The plan is approved and cannot be changed: put it back and say `go on`, or cancel this session."
        )
        await ask(desk, GateKind.QUESTION, text)


async def _approved(desk: Desk, decided: Plan) -> Phase:
    """Keep the plan as it was approved, every field decided."""

    def edit(document: Document) -> None:
        document.approved_plan = decided

    await desk.change(edit)
    return Phase.SWEEP


async def check(desk: Desk, plan: Plan) -> list[Question]:
    """What no job would take, as questions: the API's own validation of each candidate, which names the valid range."""
    problems: dict[str, Question] = {}
    for candidate in candidates(plan):
        body = training.body(
            desk, plan, candidate, output=f"{desk.id}-check", dataset=plan.dataset or "", evaluation=None
        )
        try:
            await desk.api.post(f"{training.noun(plan)}:validate", body)
        except (InvalidArgument, NotFound, FailedPrecondition) as error:
            field = next((field for word, field in _FIELDS if word in error.message.lower()), "grid")
            problems[error.message] = Question(
                field=field, text=f"{error.message.rstrip('.')}. What shall I use instead?"
            )
    return list(problems.values())


async def _taken(desk: Desk, plan: Plan) -> list[Question]:
    """Names of the plan under which something is already: a session changes nothing that is there."""
    questions = []
    for field, noun, name in (
        ("output_model", "models", plan.output_model),
        ("deployment", "deployments", plan.deployment),
    ):
        if name and await desk.api.find(f"{noun}/{short_id(name)}"):
            text = f"There is a {noun[:-1]} {name} already, and I change nothing that is there. Which name instead?"
            questions.append(Question(field=field, text=text))
    return questions


def _shown_method(document: Document, plan: Plan) -> Method:
    """What the data shows, where the plan names no method."""
    assert plan.dataset is not None
    shown = inspected(document, plan.dataset).format
    pairs = shown is RowFormat.PAIRS or training.is_delta(plan)
    return Method.DPO if pairs else Method.SFT


def _keep(document: Document, estimate: Estimate, generated: dict[str, str]) -> None:
    document.estimate = estimate
    document.generated = generated
