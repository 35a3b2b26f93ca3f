"""A plan, and what was read of one, in plain sentences: what the person sees before anything is approved."""

from __future__ import annotations

import re
from typing import Any

from tunesmith.agent.plan import SEED, Approvals, Candidate, Evaluation, EvaluationPath, Grid, Method, Plan

_METHODS = {
    Method.SFT: "supervised fine-tuning (SFT)",
    Method.CLASSIFICATION: "classification (SFT on labels)",
    Method.DPO: "DPO",
    Method.ORPO: "ORPO",
}
_PATHS = {
    EvaluationPath.VALIDATION_LOSS: "validation loss",
    EvaluationPath.EVALUATOR: "your evaluator",
    EvaluationPath.GENERATED: "an evaluator that I write from the data",
}


def restate_changes(changes: dict[str, Any]) -> list[str]:
    """One sentence per changed field."""
    return [f"{text[0].upper()}{text[1:]}." for name, value in changes.items() for text in _phrases(name, value)]


def restate(plan: Plan) -> list[str]:
    """What a plan states, as phrases; what is left to the defaults is left out."""
    default = Plan()
    return [
        phrase
        for name in Plan.model_fields
        if getattr(plan, name) != getattr(default, name)
        for phrase in _phrases(name, getattr(plan, name))
    ]


def subject(sentence: str) -> str:
    """What a restating sentence is about, without the value."""
    return re.split(r": | by ", sentence, maxsplit=1)[0].rstrip(".").lower()


def subjects(plan: Plan, changes: dict[str, Any]) -> set[str]:
    """What sentences about these fields of the plan are about, before and after a change."""
    default = Plan()
    before = {name: getattr(plan, name) for name in changes if getattr(plan, name) != getattr(default, name)}
    return {subject(sentence) for sentence in (*restate_changes(before), *restate_changes(changes))}


def setting_of(candidate: Candidate) -> str:
    """A candidate in one phrase."""
    beta = f", beta {candidate.beta:g}" if candidate.beta is not None else ""
    base = candidate.base_model.rsplit("/", 1)[-1]
    return f"{base}, {_rank(candidate.lora_rank)}, learning rate {candidate.learning_rate:g}{beta}"


def _phrases(name: str, value: Any) -> list[str]:
    if isinstance(value, Grid):
        return _grid(value)
    if isinstance(value, Evaluation):
        return _evaluation(value)
    if isinstance(value, Approvals):
        return _approvals(value)
    if name == "subsample":
        return [f"{value:,} rows in the sweep" if value else "all rows in the sweep"]
    if name in _CHOICES:
        yes, no = _CHOICES[name]
        return [yes if value else no]
    if name == "method":
        return [f"method: {_METHODS[value]}"]
    if name == "base_models":
        return [f"base model{'s' if len(value) > 1 else ''}: {', '.join(value)}"]
    if value is None:
        return [f"no {_NAMED[name]}"]
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return [f"{_NAMED[name]}: {shown}"]


_CHOICES = {
    "final_run": ("a final run on all data", "no final run: the winning candidate is the result"),
    "deploy": ("the result is deployed", "no deployment"),
}
_NAMED = {
    "dataset": "dataset",
    "evaluation_dataset": "evaluation dataset",
    "epochs": "epochs of each candidate",
    "parallel": "training jobs at a time",
    "batch_size_samples": "samples of a step",
    "max_context_length": "tokens of context",
    "strong_model": "strong model",
    "weak_model": "weak model",
    "output_model": "name of the model",
    "deployment": "name of the deployment",
    "seed": f"seed (default {SEED})",
}


def _grid(grid: Grid) -> list[str]:
    if grid.points:
        points = ", ".join(
            f"({_rank(p.lora_rank)}, {p.learning_rate:g}{f', beta {p.beta:g}' if p.beta is not None else ''})"
            for p in grid.points
        )
        return [f"settings to try: {points}"]
    phrases = []
    if grid.lora_ranks == [0]:
        phrases.append("all parameters are trained (no LoRA)")
    elif grid.lora_ranks:
        phrases.append(f"LoRA ranks: {', '.join(map(str, grid.lora_ranks))}")
    for name, values in (("learning rates", grid.learning_rates), ("betas", grid.betas)):
        if values:
            phrases.append(f"{name}: {', '.join(f'{value:g}' for value in values)}")
    return phrases or ["the default settings"]


def _rank(rank: int) -> str:
    return f"rank {rank}" if rank else "all parameters"


def _evaluation(evaluation: Evaluation) -> list[str]:
    if evaluation.path is None:
        return ["evaluation: the default"]
    by = f", {evaluation.evaluator}" if evaluation.evaluator else ""
    return [f"candidates are compared by {_PATHS[evaluation.path]}{by}"]


def _approvals(approvals: Approvals) -> list[str]:
    waits = {"plan with its cost": approvals.plan, "promotion of a candidate": approvals.promotion}
    return [f"I {'ask you before' if asked else 'do not wait for you at'} the {gate}" for gate, asked in waits.items()]
