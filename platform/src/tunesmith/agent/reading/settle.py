"""From wishes to the new value of each field: lists are joined, differences applied to the plan that is there, contradictions asked about."""

from __future__ import annotations

from typing import Any

from tunesmith.agent.document import Question
from tunesmith.agent.plan import GRID, Approvals, Evaluation, EvaluationPath, Grid, GridPoint, Plan
from tunesmith.agent.reading.draft import Draft, Op, Wish

SINGLE = (
    "method", "dataset", "evaluation_dataset", "epochs", "subsample", "parallel", "batch_size_samples", "max_context_length",
    "final_run", "deploy", "strong_model", "weak_model", "output_model", "deployment", "seed",
)  # fmt: skip
_WORDS = {
    "batch_size_samples": "batch size", "max_context_length": "context length", "final_run": "final run on all data",
    "deploy": "deployment", "parallel": "number of jobs at a time", "subsample": "number of rows of the sweep",
    "output_model": "name of the model", "deployment": "name of the deployment", "epochs": "number of epochs",
    "evaluation.path": "way to compare candidates", "evaluation.evaluator": "evaluator",
}  # fmt: skip


def settle(draft: Draft, plan: Plan) -> dict[str, Any]:
    """The changed fields of a plan, whole. What excludes itself goes to the draft's questions."""
    changes: dict[str, Any] = {}
    for name in SINGLE:
        _single(name, draft, plan, changes)
    _base_models(draft, plan, changes)
    _grid(draft, plan, changes)
    _evaluation(draft, plan, changes)
    _approvals(draft, plan, changes)
    return changes


def _single(name: str, draft: Draft, plan: Plan, changes: dict[str, Any]) -> None:
    wishes = draft.stated(name)
    refused = [wish.value for wish in wishes if wish.op is Op.REMOVE]
    values = list(
        dict.fromkeys(wish.value for wish in wishes if wish.op is not Op.REMOVE and wish.value not in refused)
    )
    if len(values) > 1:
        _contradiction(name, [wish for wish in wishes if wish.op is not Op.REMOVE], draft)
    elif values:
        changes[name] = values[0]
    elif refused:
        current = getattr(plan, name)
        if name == "evaluation_dataset" and current in refused:
            changes[name] = None
        else:
            what = _WORDS.get(name, name.replace("_", " "))
            shown = ", ".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in refused)
            draft.questions.append(Question(field=name, text=f"Not {shown}: which {what} shall I use instead?"))


def _contradiction(name: str, wishes: list[Wish], draft: Draft) -> None:
    if any(question.field == name for question in draft.questions):
        return
    what = _WORDS.get(name, name.replace("_", " "))
    said = " and ".join(f"{wish.words!r}" for wish in {wish.value: wish for wish in wishes}.values())
    choices = [_shown(value) for value in dict.fromkeys(wish.value for wish in wishes)]
    draft.questions.append(Question(field=name, text=f"You said {said}. Which {what} shall I use?", choices=choices))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _merge(current: list[Any], wishes: list[Wish]) -> list[Any] | None:
    """A list after its wishes; None when two of them exclude each other."""
    firm = [wish for wish in wishes if wish.firm and wish.op is Op.SET]
    fixed = {tuple(wish.value) for wish in firm}
    if len(fixed) > 1 or (firm and any(wish.op is Op.SET and set(wish.value) - set(firm[0].value) for wish in wishes)):
        return None
    result = [] if any(wish.op is Op.SET for wish in wishes) else list(current)
    for wish in wishes:
        if wish.op is not Op.REMOVE:
            result += [value for value in wish.value if value not in result]
    added = {value for wish in wishes if wish.op is not Op.REMOVE for value in wish.value}
    removed = {value for wish in wishes if wish.op is Op.REMOVE for value in wish.value}
    if firm and removed & added:
        return None
    return [value for value in result if value not in removed]


def _base_models(draft: Draft, plan: Plan, changes: dict[str, Any]) -> None:
    wishes = draft.stated("base_models")
    if not wishes:
        return
    merged = _merge(plan.base_models, wishes)
    if merged is None:
        _contradiction("base_models", [Wish("base_models", ", ".join(w.value), w.words) for w in wishes], draft)
    elif not merged:
        draft.questions.append(
            Question(field="base_models", text="Without it no base model is left. Which one shall I train?")
        )
    elif merged != plan.base_models:
        changes["base_models"] = merged


# The grid --------------------------------------------------------------------------------------------------------------------------


def _grid(draft: Draft, plan: Plan, changes: dict[str, Any]) -> None:
    stated = {name: draft.stated(name) for name in ("lora_ranks", "learning_rates", "betas")}
    if draft.points:
        if any(stated.values()):
            text = "You gave pairs of LoRA rank and learning rate, and lists besides. Which settings shall I try? Please list them all."
            draft.questions.append(Question(field="grid", text=text))
            return
        changes["grid"] = Grid(points=[point for point, _ in draft.points])
        return
    if not any(stated.values()):
        return
    grid = plan.grid
    relative = any(wish.op is not Op.SET for wishes in stated.values() for wish in wishes)
    anew = all(any(wish.op is Op.SET for wish in wishes) for wishes in stated.values() if wishes)
    if relative and not anew and (grid.is_default or grid.points):
        _grid_of_points(draft, grid, stated, changes)
        return
    fresh = {}
    for name, wishes in stated.items():
        if wishes:
            merged = _merge(getattr(grid, name) if draft.message else [], wishes)
            if merged is None:
                shown = [Wish(name, ", ".join(f"{value:g}" for value in w.value), w.words) for w in wishes]
                _contradiction(f"grid.{name}", shown, draft)
                return
            if not merged:
                _none_left(name, draft)
                return
            fresh[name] = merged
    if grid.points and draft.message:
        if not {"lora_ranks", "learning_rates"} <= fresh.keys():
            text = "The plan lists settings one by one. Which learning rates go with which LoRA ranks now? Please list them all."
            draft.questions.append(Question(field="grid", text=text))
            return
        grid = Grid()
    updated = grid.model_copy(update=fresh)
    if updated != plan.grid:
        changes["grid"] = updated


def _grid_of_points(draft: Draft, grid: Grid, stated: dict[str, list[Wish]], changes: dict[str, Any]) -> None:
    """A difference to settings that are listed one by one: values can be taken away; what is added must be whole."""
    points = grid.points or [GridPoint(lora_rank=rank, learning_rate=rate) for rank, rate in GRID]
    if any(wish.op is not Op.REMOVE for wishes in stated.values() for wish in wishes):
        listed = ", ".join(f"rank {point.lora_rank} at {point.learning_rate:g}" for point in points)
        text = f"The settings are {listed}. Which whole settings (LoRA rank and learning rate) shall I try now? Please list them all."
        draft.questions.append(Question(field="grid", text=text))
        return
    ranks = {value for wish in stated["lora_ranks"] for value in wish.value}
    rates = {value for wish in stated["learning_rates"] for value in wish.value}
    betas = {value for wish in stated["betas"] for value in wish.value}
    left = [p for p in points if not (p.lora_rank in ranks or p.learning_rate in rates or p.beta in betas)]
    if not left:
        _none_left("settings", draft)
    elif len(left) == len(points):
        draft.questions.append(Question(field="grid", text="The settings hold no such value. Which ones shall I drop?"))
    else:
        changes["grid"] = Grid(points=left)


def _none_left(name: str, draft: Draft) -> None:
    what = name.replace("_", " ").replace("lora", "LoRA")
    text = f"Without these no {what} are left. Which {what} shall I try?"
    draft.questions.append(Question(field=f"grid.{name}" if name != "settings" else "grid", text=text))


# Evaluation and approvals ----------------------------------------------------------------------------------------------------------


def _evaluation(draft: Draft, plan: Plan, changes: dict[str, Any]) -> None:
    refused = {wish.value for wish in draft.wishes if wish.field.startswith("evaluation.") and wish.op is Op.REMOVE}
    paths = [w for w in draft.stated("evaluation.path") if w.op is not Op.REMOVE]
    evaluators = [w for w in draft.stated("evaluation.evaluator") if w.op is not Op.REMOVE and w.value not in refused]
    if len({wish.value for wish in evaluators}) > 1:
        _contradiction("evaluation.evaluator", evaluators, draft)
        return
    if len({wish.value for wish in paths}) > 1:
        _contradiction("evaluation.path", paths, draft)
        return
    if paths:
        evaluator = str(evaluators[0].value) if evaluators else None
        if evaluator is None and paths[0].value is EvaluationPath.EVALUATOR:
            evaluator = plan.evaluation.evaluator
        changes["evaluation"] = Evaluation(path=paths[0].value, evaluator=evaluator)


def _approvals(draft: Draft, plan: Plan, changes: dict[str, Any]) -> None:
    updated = plan.approvals
    for name in ("plan", "promotion"):
        values = {wish.value for wish in draft.stated(f"approvals.{name}")}
        if len(values) > 1:
            _contradiction(f"approvals.{name}", draft.stated(f"approvals.{name}"), draft)
        elif values:
            updated = updated.model_copy(update={name: values.pop()})
    if draft.stated("approvals.plan") or draft.stated("approvals.promotion"):
        changes["approvals"] = Approvals.model_validate(updated.model_dump(exclude_unset=False))
