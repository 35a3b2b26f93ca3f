"""Phase 1: what was named is looked up, the rows are fetched once, and looked at with the tokenizers of the base models.

A name that leads nowhere, or a base model that cannot be had, is a question, not a failure. Nothing is trained and no model is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

from tunesmith.agent import inspection as facts
from tunesmith.agent.document import Document, EventKind, Phase, Question
from tunesmith.agent.plan import Method, Plan
from tunesmith.agent.questions import open_questions
from tunesmith.agent.rows import RowFormat
from tunesmith.catalog import BaseModelEntry
from tunesmith.jobs.session import staging
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.gates import ask_all
from tunesmith.jobs.session.names import names_in_reach, resolve_names
from tunesmith.jobs.session.training import is_delta
from tunesmith.rendering.renderer import Renderer
from tunesmith.schemas.names import short_id


async def inspect(desk: Desk) -> Phase:
    """Look at everything that the plan names; questions where something is missing."""
    document = await desk.read()
    wish = document.plan
    if open_questions(wish, document):
        questions = open_questions(wish, document, await names_in_reach(desk))
        await ask_all(desk, questions, on_plan=wish)
    await desk.say("Looking up what the plan names.")
    resolved = await resolve_names(desk, wish)
    if resolved.questions:
        await ask_all(desk, resolved.questions, on_plan=wish)
    plan = resolved.plan
    assert plan.dataset is not None
    await desk.say(f"Fetching and inspecting {plan.dataset}.")
    for dataset in _datasets(plan):
        await staging.fetch(desk, dataset)
    renderers = await asyncio.to_thread(_renderers, resolved.bases)
    found = await asyncio.to_thread(_look, desk, plan, renderers)
    problem = _problem(found[plan.dataset], plan) or _evaluation_problem(found, plan)
    if problem is not None:
        await ask_all(desk, [problem], on_plan=wish)

    def edit(it: Document) -> list[Event]:
        it.plan = plan
        it.inspection = {name: each.model_dump(mode="json") for name, each in found.items()}
        return [event for name, each in found.items() for event in _events(name, each, name == plan.dataset)]

    await desk.change(edit, on_plan=wish)
    return Phase.PLAN


def inspected(document: Document, dataset: str) -> facts.Inspection:
    """What is known about a dataset. Raises KeyError before it was looked at."""
    return facts.Inspection.model_validate(document.inspection[dataset])


def is_inspected(document: Document, plan: Plan) -> bool:
    """Whether what the plan names was looked at with all of its base models."""
    return all(
        name in document.inspection and set(plan.base_models) <= set(inspected(document, name).tokens)
        for name in _datasets(plan)
    )


def usable_count(document: Document, plan: Plan) -> int:
    """Rows of the dataset that can be used."""
    assert plan.dataset is not None
    return inspected(document, plan.dataset).usable_rows


def _datasets(plan: Plan) -> list[str]:
    return [name for name in (plan.dataset, plan.evaluation_dataset) if name]


def _renderers(bases: Mapping[str, BaseModelEntry]) -> dict[str, Renderer]:
    return {name: Renderer.load(base.path, base.name, base.family) for name, base in bases.items()}


def _look(desk: Desk, plan: Plan, renderers: Mapping[str, Renderer]) -> dict[str, facts.Inspection]:
    found = {}
    given = desk.rows(f"source-{short_id(plan.evaluation_dataset)}") if plan.evaluation_dataset else None
    for name in _datasets(plan):
        found[name] = facts.inspect(
            desk.rows(f"source-{short_id(name)}"),
            renderers,
            evaluation_rows=given if name == plan.dataset else None,
            labels_wanted=plan.method is Method.CLASSIFICATION,
        )
    return found


def _problem(found: facts.Inspection, plan: Plan) -> Question | None:
    """Why this dataset cannot be trained on with this plan; None where it can."""
    pairs = found.format is RowFormat.PAIRS
    preference = plan.method in (Method.DPO, Method.ORPO)
    if is_delta(plan):
        return _delta_problem(found, plan)
    if found.format is RowFormat.UNKNOWN:
        text = f"I cannot train on {plan.dataset}: {found.reason}. Which dataset shall I use?"
        return Question(field="dataset", text=text)
    if pairs and plan.method not in (None, Method.DPO, Method.ORPO):
        text = f"{plan.dataset} holds preference pairs, which {plan.method} cannot train on. Shall I use DPO, or another dataset?"
        return Question(field="method", text=text, choices=["DPO"])
    if not pairs and preference:
        text = (
            f"{plan.method} needs preference pairs, and {plan.dataset} has none. I can make them from the answers of two models: "
            "name them as `X as the strong model and Y as the weak model`. Or which dataset of pairs shall I use?"
        )
        return Question(field="strong_model", text=text)
    if found.format is RowFormat.PROMPTS:
        text = f"{plan.dataset} has prompts without answers, so there is nothing to imitate. Which dataset shall I use?"
        return Question(field="dataset", text=text)
    return None


def _delta_problem(found: facts.Inspection, plan: Plan) -> Question | None:
    """Why no pairs can be made of this dataset's prompts; None where they can."""
    if found.format is RowFormat.UNKNOWN:
        text = f"I cannot take prompts from {plan.dataset}: {found.reason}. Which dataset shall I use?"
        return Question(field="dataset", text=text)
    if plan.method not in (None, Method.DPO, Method.ORPO):
        text = (
            f"Answers of a strong and a weak model make preference pairs, which {plan.method} cannot train on. "
            "Shall I use DPO, or train without these two models?"
        )
        return Question(field="method", text=text, choices=["DPO"])
    return None


def _evaluation_problem(found: Mapping[str, facts.Inspection], plan: Plan) -> Question | None:
    """Why candidates cannot be compared on this evaluation dataset; None where they can, or there is none."""
    if plan.dataset is None or plan.evaluation_dataset is None:
        return None
    training, given = found[plan.dataset], found[plan.evaluation_dataset]
    if given.method is (Method.DPO if is_delta(plan) else training.method):
        return None
    trained_on = "the pairs that I am to make" if is_delta(plan) else f"those of {plan.dataset}"
    reason = given.reason or f"its rows are {given.format.replace('_', ' ')}, {trained_on} are not"
    text = f"I cannot evaluate on {plan.evaluation_dataset}: {reason}. Which evaluation dataset, or shall I hold out a part?"
    return Question(field="evaluation_dataset", text=text)


def _events(dataset: str, found: facts.Inspection, is_training: bool) -> list[Event]:
    """What was found, once for each finding."""
    mark = hashlib.sha256(f"{dataset}{found.model_dump_json()}".encode()).hexdigest()[:8]
    what = "Dataset" if is_training else "Evaluation dataset"
    sentences = [line for line in found.summary().splitlines() if not line.startswith("Warning: ")]
    events = [Event(f"inspection/{mark}", EventKind.STATUS_INFO, f"{what} {dataset}: {' '.join(sentences)}")]
    for number, text in enumerate(found.warnings):
        events.append(Event(f"inspection/{mark}/warning{number}", EventKind.WARNING, text))
    for each in found.conversions:
        data = each.model_dump(mode="json")
        text = f"Conversion of {each.rows} rows of {short_id(dataset)}, on a copy: {each.description} (first: line {each.line})."
        events.append(Event(f"inspection/{mark}/{each.name}", EventKind.STATUS_INFO, text, data))
    return events
