"""From the names that a plan uses to resources that are there; a name that leads nowhere becomes a question with near names."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from tunesmith.agent.document import Question
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import BaseModelName, Names
from tunesmith.catalog import BaseModelEntry, canonical_name, resolve
from tunesmith.catalog.known import KNOWN
from tunesmith.catalog.lookup import account_model
from tunesmith.errors import NotFound
from tunesmith.jobs.session.desk import Desk
from tunesmith.schemas.names import short_id

NEAR_NAMES = 3


@dataclass
class Resolved:
    """A plan whose names are resource names, and what is missing."""

    plan: Plan
    bases: dict[str, BaseModelEntry] = field(default_factory=dict)
    """By name, files in place."""
    served: dict[str, BaseModelEntry] = field(default_factory=dict)
    """Base of the strong and of the weak model, by the model's name."""
    questions: list[Question] = field(default_factory=list)


async def names_in_reach(desk: Desk) -> Names:
    """What the account has and the catalogue offers, to be listed where something is missing or unknown."""
    listed = {noun: await desk.api.list(noun) for noun in ("datasets", "evaluators", "models")}
    return Names(
        account=short_id(desk.job.account),
        base_models=await asyncio.to_thread(_catalogue, desk),
        datasets=sorted((each["name"] for each in listed["datasets"]), key=_is_of_a_session),
        evaluators=[each["name"] for each in listed["evaluators"]],
        models=[each["name"] for each in listed["models"]],
    )


def _is_of_a_session(dataset: str) -> bool:
    """Whether a session made it: listed behind what people made."""
    return short_id(dataset).startswith("ds-")


def _catalogue(desk: Desk) -> list[BaseModelName]:
    models = []
    for name, known in KNOWN.items():
        try:
            resolve(name, models_dir=desk.settings.path("models"), download=False)
        except NotFound:
            models.append(BaseModelName(name, known.repo or "", known.display_name, here=False))
        else:
            models.append(BaseModelName(name, known.repo or "", known.display_name))
    return models


async def resolve_names(desk: Desk, plan: Plan) -> Resolved:
    """Look at everything that the plan names. Blocks while a base model is fetched."""
    found = Resolved(plan.model_copy(deep=True))
    changes: dict[str, object] = {}
    for name in ("dataset", "evaluation_dataset"):
        given = getattr(plan, name)
        if given:
            changes[name] = await _dataset(desk, name, given, found.questions)
    changes["base_models"] = [await _base(desk, "base_models", model, found) for model in plan.base_models]
    for name in ("strong_model", "weak_model"):
        given = getattr(plan, name)
        if given:
            changes[name] = await _served(desk, name, given, found)
    if changes.get("strong_model") and changes["strong_model"] == changes.get("weak_model"):
        text = f"The strong and the weak model are both {changes['strong_model']}, which answers alike. Which is the weak one?"
        found.questions.append(Question(field="weak_model", text=text))
    if plan.evaluation.evaluator:
        evaluator = await _evaluator(desk, plan.evaluation.evaluator, found.questions)
        changes["evaluation"] = plan.evaluation.model_copy(update={"evaluator": evaluator})
    if plan.output_model:
        changes["output_model"] = desk.name("models", plan.output_model)
    if plan.deployment:
        changes["deployment"] = desk.name("deployments", plan.deployment)
    found.plan = plan.model_copy(update=changes)
    return found


async def _dataset(desk: Desk, what: str, given: str, questions: list[Question]) -> str:
    name = desk.name("datasets", given)
    dataset = await desk.api.find(f"datasets/{short_id(name)}") if name.startswith(f"{desk.job.account}/") else None
    if dataset is None:
        others = [each["name"] for each in await desk.api.list("datasets") if each["state"] == "READY"]
        questions.append(_unknown(what, "dataset", name, others))
    elif dataset["state"] != "READY":
        text = f"The dataset {name} has no rows yet. Upload them and say so, or name another dataset."
        questions.append(Question(field=what, text=text))
    return name


async def _base(desk: Desk, what: str, given: str, found: Resolved) -> str:
    """A base model of the catalogue, a Hugging Face id, a local folder, or a full model of the account."""
    name, own = catalogue_name(given), desk.name("models", given)
    full = desk.settings.path("objects", "models", "x").parent
    if own.startswith(f"{desk.job.account}/") and account_model(own, full) is not None:
        name = own
    try:
        models_dir = desk.settings.path("models")
        entry = await asyncio.to_thread(resolve, name, models_dir=models_dir, account_models=full)
    except NotFound as error:
        if name in KNOWN or "/" in given:  # it is known, but cannot be had: the reason says where it was looked for
            found.questions.append(Question(field=what, text=f"{error.message} Which base model instead?"))
        else:
            found.questions.append(_unknown(what, "base model", given, KNOWN))
        return given
    found.bases[entry.name] = entry
    return entry.name


async def _served(desk: Desk, what: str, given: str, found: Resolved) -> str:
    """Any model that answers: a base model or one of the account."""
    own = desk.name("models", given)
    model = await desk.api.find(f"models/{short_id(own)}") if own.startswith(f"{desk.job.account}/") else None
    adapter = model is not None and model.get("peftDetails")
    probe = Resolved(found.plan, questions=found.questions)
    base = await _base(desk, what, adapter["baseModel"] if adapter else given, probe)
    name = own if model is not None else base
    found.served |= {name: probe.bases[base]} if base in probe.bases else {}
    return name


async def _evaluator(desk: Desk, given: str, questions: list[Question]) -> str:
    name = desk.name("evaluators", given)
    evaluator = await desk.api.find(f"evaluators/{short_id(name)}")
    if evaluator is None:
        others = [each["name"] for each in await desk.api.list("evaluators")]
        questions.append(_unknown("evaluation.evaluator", "evaluator", name, others))
    elif evaluator["state"] != "ACTIVE":
        reason = (evaluator.get("status") or {}).get("message") or "no reason was given"
        text = f"The evaluator {name} is {evaluator['state']}, not ACTIVE ({reason}). Repair it and say so, or name another one."
        questions.append(Question(field="evaluation.evaluator", text=text))
    return name


def catalogue_name(given: str) -> str:
    """The resource name of a catalogue's model that was named by its id (`qwen3-8b`); other names as they are."""
    name = canonical_name(given)
    return next((known for known in KNOWN if known.rsplit("/", 1)[-1] == name), name)


def _unknown(what: str, noun: str, given: str, there: Iterable[str]) -> Question:
    near = near_names(given, there)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return Question(field=what, text=f"There is no {noun} {given}.{hint} Which {noun} shall I use?", choices=near)


def near_names(given: str, there: Iterable[str]) -> list[str]:
    """The few names that look most like `given`, judged by their ids."""
    names = {name.rsplit("/", 1)[-1]: name for name in there}
    return [names[id] for id in difflib.get_close_matches(short_id(given), names, n=NEAR_NAMES, cutoff=0.5)]
