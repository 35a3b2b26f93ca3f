"""Which gaps of a plan have to be asked about before it can be priced. Pure: the handler presents what this returns as one gate.

A gap with a documented default is not asked about: the plan shows the default. The data and the base models have none, as documented;
words that were not understood, or that contradict each other, have none either.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tunesmith.agent.document import Document, Question
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.agent.reading.names import BaseModelName, Names

SHOWN = 12
"""Names listed in a question; the rest is counted."""


def open_questions(plan: Plan, document: Document, names: Names | None = None) -> list[Question]:
    """What has to be asked: missing fields, names that are not there, and what the document says was unclear.

    Args:
        plan: as read so far.
        document: the session's; its `unclear` questions come last.
        names: what the account and the catalogue have; without it no name is looked up.

    Returns:
        One question per gap, in the order of the plan's fields; empty when the plan can be priced.
    """
    asked = {question.field for question in document.unclear}
    found = [*_method(plan), *_data(plan, names), *_base_models(plan, names), *_evaluation(plan, names)]
    return [question for question in found if question.field not in asked] + document.unclear


def _method(plan: Plan) -> list[Question]:
    if (plan.strong_model is None) == (plan.weak_model is None):
        return []
    given, missing = ("strong_model", "weak_model") if plan.strong_model else ("weak_model", "strong_model")
    word = missing.removesuffix("_model")
    text = (
        f"Preference pairs need a strong and a weak model; the {given.removesuffix('_model')} one is "
        f"{getattr(plan, given)}. Which is the {word} one?"
    )
    return [Question(field=missing, text=text)]


def _data(plan: Plan, names: Names | None) -> list[Question]:
    questions = []
    if plan.dataset is None:
        have = _list("Your datasets", names.datasets) if names else ""
        text = f"Which dataset shall I train on? Give its id or its resource name.{have}"
        questions.append(Question(field="dataset", text=text, choices=_ids(names.datasets) if names else []))
    for name, value, what in (
        ("dataset", plan.dataset, "dataset"),
        ("evaluation_dataset", plan.evaluation_dataset, "evaluation dataset"),
    ):
        if names and value is not None and not names.has("datasets", value):
            questions.append(_unknown(name, what, value, names.datasets))
    if plan.dataset is not None and plan.dataset == plan.evaluation_dataset:
        text = f"{plan.dataset} is named both to train on and to evaluate on. Which dataset shall I evaluate on, or shall I hold out a part of it?"
        questions.append(Question(field="evaluation_dataset", text=text, choices=["hold out a part"]))
    return questions


def _base_models(plan: Plan, names: Names | None) -> list[Question]:
    if not plan.base_models:
        offered = [model for model in names.base_models if model.here] if names else []
        extra = "A classification needs its base models named. " if plan.method is Method.CLASSIFICATION else ""
        listed = "; ".join(describe(model) for model in offered)
        have = f" On this machine: {listed}." if listed else ""
        if names and len(offered) < len(names.base_models):
            have += " For all of them ask `Which base models do you support?`."
        text = f"{extra}Which base model or models shall I train?{have}"
        return [Question(field="base_models", text=text, choices=[model.id for model in offered])]
    questions = []
    for value in plan.base_models:
        if names and names.base_model(value) is None and value not in names.models and not _elsewhere(value):
            listed = ", ".join(model.id for model in names.base_models)
            text = f"{value} is no base model that I can train. I can train {listed}; a Hugging Face id (org/name) or a folder (absolute path) works, too. Which one shall I take?"
            questions.append(Question(field="base_models", text=text, choices=_near(value, names.base_models)))
    return questions


def _elsewhere(value: str) -> bool:
    """Names that the catalogue cannot judge: folders, and repositories of the hub."""
    return value.startswith("/") or (value.count("/") == 1 and not value.startswith("accounts/"))


def _evaluation(plan: Plan, names: Names | None) -> list[Question]:
    evaluation = plan.evaluation
    if evaluation.path is not EvaluationPath.EVALUATOR:
        return []
    if evaluation.evaluator is None:
        have = _list("Your evaluators", names.evaluators) if names else ""
        text = f"Which evaluator shall I use? Give its id or its resource name.{have}"
        return [Question(field="evaluation.evaluator", text=text, choices=_ids(names.evaluators) if names else [])]
    if names and not names.has("evaluators", evaluation.evaluator):
        return [_unknown("evaluation.evaluator", "evaluator", evaluation.evaluator, names.evaluators)]
    return []


def describe(model: BaseModelName) -> str:
    """A base model in one phrase: id and context length."""
    context = f" (context {model.context_length:,} tokens)" if model.context_length else ""
    return f"{model.id}{context}"


def _unknown(field: str, what: str, value: str, known: Sequence[str]) -> Question:
    near = difflib.get_close_matches(value.rsplit("/", 1)[-1], _ids(known), n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(near)}?" if near else _list(f"Your {what.split()[-1]}s", known)
    text = f"There is no {what} {value} in this account.{meant} Name another, or create it and name it again."
    return Question(field=field, text=text, choices=near or _ids(known)[:SHOWN])


def _near(value: str, models: Sequence[BaseModelName]) -> list[str]:
    return difflib.get_close_matches(value.rsplit("/", 1)[-1].lower(), [model.id for model in models], n=3, cutoff=0.5)


def _ids(names: Sequence[str]) -> list[str]:
    return [name.rsplit("/", 1)[-1] for name in names][:SHOWN]


def _list(what: str, names: Sequence[str]) -> str:
    if not names:
        return f" {what}: none yet."
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" {what}: {', '.join(_ids(names))}{more}."
