"""Answers to what a person asks a session, from its document and the names in reach. Pure, and honest about what is not known yet."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.agent.cost import cost_range
from tunesmith.agent.document import CandidateResult, Document, State
from tunesmith.agent.durations import duration, duration_range
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.plan import GRID, PARALLEL, SEED, SUBSAMPLE
from tunesmith.agent.questions import describe
from tunesmith.agent.reading.names import Names
from tunesmith.agent.reading.restate import restate, setting_of
from tunesmith.agent.reading.result import Topic
from tunesmith.schemas.names import short_id


def reply(topic: Topic, document: Document, state: State, names: Names, phase: str = "") -> str:
    """The answer to one question, a few sentences."""
    if topic is Topic.STATUS:
        return _status(document, state, phase)
    if topic in _ABOUT_NAMES:
        return _ABOUT_NAMES[topic](names)
    if topic in _ABOUT_SESSION:
        return _ABOUT_SESSION[topic](document)
    return _GENERAL.get(topic, _HELP)


def _base_models(names: Names) -> str:
    here = "; ".join(describe(model) for model in names.base_models if model.here)
    elsewhere = ", ".join(model.id for model in names.base_models if not model.here)
    parts = [f"On this machine I can train (SFT, DPO and ORPO): {here}." if here else "No base model lies here yet."]
    if elsewhere:
        parts.append(f"Fetched first, where this machine reaches the Hugging Face hub: {elsewhere}.")
    parts.append("A Hugging Face id (org/name) or a folder (absolute path) works, too.")
    return " ".join(parts)


def _datasets(names: Names) -> str:
    return _listed("Your datasets", names.datasets)


def _evaluators(names: Names) -> str:
    return _listed("Your evaluators", names.evaluators)


def _listed(what: str, names: object) -> str:
    ids = [str(name).rsplit("/", 1)[-1] for name in names]  # type: ignore[attr-defined]
    return f"{what}: {', '.join(ids)}." if ids else f"{what}: none yet."


_ENDED = {"JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}


def _status(document: Document, state: State, phase: str) -> str:
    where = f", in phase {phase.replace('_', ' ')}" if phase else ""
    runs = [result for result in document.candidates if result.number]
    done = sum(1 for result in runs if result.failed or (result.run and result.run.state in _ENDED))
    swept = f" {done} of {len(runs)} candidates have ended." if runs else ""
    gate = document.gate
    waits = f" It waits for you: {gate.text}" if state is State.WAITING and gate and not gate.answered else ""
    doing = f" {document.message.rstrip('.')}." if document.message and not waits else ""
    return f"The session is {state}{where}.{doing}{swept}{waits}"


def _cost(document: Document) -> str:
    spent = sum(document.spent.values())
    so_far = f" Spent so far: {duration(spent)}."
    estimate = document.estimate
    if estimate is None:
        return f"The plan is not priced yet; the estimate comes with it, before anything is trained.{so_far}"
    parts = [
        f"Estimated wall time {duration_range(estimate.total_seconds)}: training {duration_range(estimate.training_seconds)}, "
        f"inference {duration_range(estimate.inference_seconds)}."
    ]
    if estimate.total_cost is not None and estimate.currency:
        parts.append(f"Estimated cost {cost_range(estimate.total_cost, estimate.currency)}.")
    else:
        parts.append("No price is set on this platform, so it is counted in time alone.")
    return " ".join(parts) + so_far


def _plan(document: Document) -> str:
    plan = document.approved_plan or document.plan
    stated = "; ".join(restate(plan)) or "nothing is decided yet"
    return f"The plan {'as approved' if document.approved_plan else 'so far'}: {stated}."


def _scoreboard(document: Document) -> str:
    if not document.candidates:
        return "There is no scoreboard yet: no candidate has been trained."
    lines = "; ".join(_candidate(result) for result in document.candidates)
    winner = f" Winner: candidate {document.winner}." if document.winner else ""
    return f"{lines}.{winner} {document.reason}".rstrip()


def _candidate(result: CandidateResult) -> str:
    if result.number:
        name = f"candidate {result.number}" + (f" ({setting_of(result.candidate)})" if result.candidate else "")
    else:
        name = f"base model {short_id(result.candidate.base_model)}" if result.candidate else "base model"
    if result.failed:
        return f"{name} failed: {result.failed}"
    figures = []
    if result.loss:
        figures.append(f"loss {result.loss.mean:.4f} [{result.loss.low:.4f}, {result.loss.high:.4f}]")
    if result.score:
        figures.append(f"score {result.score.mean:.3f} [{result.score.low:.3f}, {result.score.high:.3f}]")
    return f"{name}: {', '.join(figures) or 'no figures yet'}"


def _data(document: Document) -> str:
    if not document.inspection:
        return "The data was not looked at yet; what is found is told before the plan."
    return "\n".join(
        f"{name}: {Inspection.model_validate(found).summary()}" for name, found in document.inspection.items()
    )


def _evaluator(document: Document) -> str:
    if not document.generated:
        return _evaluation(document)
    files = [f"{name}:\n\n{text.rstrip()}" for name, text in document.generated.items() if "." in name]
    return "\n\n".join([*files, document.generated.get("validation", "")]).rstrip()


def _evaluation(document: Document) -> str:
    chosen = document.plan.evaluation.path
    now = f" This session's plan says: {chosen.replace('_', ' ')}." if chosen else ""
    return (
        "Candidates are compared on held-out rows in one of three ways: by validation loss (the default); by an evaluator of yours "
        "(`Use evaluator accounts/ACCOUNT/evaluators/ID.`); or by one that I write from the data, where answers can be checked "
        f"(`Generate an evaluator for me.`).{now}"
    )


_ABOUT_NAMES: dict[Topic, Callable[[Names], str]] = {
    Topic.BASE_MODELS: _base_models,
    Topic.DATASETS: _datasets,
    Topic.EVALUATORS: _evaluators,
}
_ABOUT_SESSION: dict[Topic, Callable[[Document], str]] = {
    Topic.COST: _cost,
    Topic.PLAN: _plan,
    Topic.SCOREBOARD: _scoreboard,
    Topic.EVALUATION: _evaluation,
    Topic.EVALUATOR: _evaluator,
    Topic.DATA: _data,
}
_GENERAL: dict[Topic, str] = {
    Topic.GRID: "Unless you name others, each base model is tried with "
    + ", ".join(f"LoRA rank {rank} at learning rate {rate:g}" for rank, rate in GRID)
    + f"; the sweep takes at most {SUBSAMPLE} rows (seed {SEED}) and runs at most {PARALLEL} jobs at a time.",
    Topic.EPOCHS: "Unless you name a number, it is min(5, ceil(2500 / rows)): 5 epochs for up to 500 rows, 1 from 2,500 on.",
    Topic.METHODS: "I run supervised fine-tuning (SFT), classification (SFT on labels), DPO and ORPO, with LoRA or all parameters. "
    "Reinforcement fine-tuning is a job of its own: `eval-protocol create rft`.",
    Topic.LORA: "LoRA trains a small low-rank addition to the frozen weights: the rank is its size (more can be learned, slower), "
    "the learning rate how far each step goes. Rank 0 trains all parameters.",
    Topic.GATES: "I wait for you twice: for the plan with its cost (`Approved, proceed.`), and after the sweep for the promotion of a candidate "
    "(`Proceed with the winning config.`, `use candidate N`, `stop here`). Nothing is trained before the first.",
}
_HELP = (
    "I can tell you about base models, datasets, evaluators, what is in the data, the plan, its cost, the state of the session, the scoreboard, the default grid, "
    "epochs, and how candidates are evaluated. I did not find one of these in the question; please ask in other words."
)
