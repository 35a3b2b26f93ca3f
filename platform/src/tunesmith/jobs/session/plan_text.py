"""The plan as a person reads it at the gate: everything that was decided, where it was a default, and what it takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.agent import evaluator_source
from tunesmith.agent.cost import breakdown
from tunesmith.agent.document import Document, Estimate
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.jobs.session.decide import candidates
from tunesmith.jobs.session.staging import Cut
from tunesmith.jobs.session.training import describe, is_delta

METHODS = {
    Method.SFT: "supervised fine-tuning (SFT)",
    Method.CLASSIFICATION: "classification (SFT on labels)",
    Method.DPO: "preference training (DPO)",
    Method.ORPO: "preference training (ORPO)",
}
HOW_TO_ANSWER = "Reply `Approved, proceed.` to start, or say what to change. Nothing is trained before."
GOES_ON = "The plan asks for no approval; starting."


def plan_text(plan: Plan, *, document: Document, cut: Cut, estimate: Estimate, generated: Mapping[str, str]) -> str:
    """The whole plan with its cost, behind the evaluator that it uses: what is decided on stands last.

    Args:
        plan: every field decided.
        document: the session's: the wish, to tell defaults, and the inspection.
        cut: how the rows were cut.
        estimate: what it takes.
        generated: files of a generated evaluator, shown word for word.
    """
    wish = document.plan
    assert plan.dataset is not None
    assert plan.method is not None
    found = Inspection.model_validate(document.inspection[plan.dataset])
    runs = candidates(plan)
    lines = ["The plan, for your approval." if plan.approvals.plan else "The plan."]
    for name in (evaluator_source.SPEC, evaluator_source.FILE) if generated else ():
        lines += ["", f"The evaluator that I wrote, {name}:", *(f"  {line}" for line in generated[name].splitlines())]
    lines += ["", "Plan"]
    lines.append(f"  Method: {METHODS[plan.method]}{_default(wish.method is None)}")
    lines.append(f"  Dataset: {plan.dataset} ({found.usable_rows} usable rows of {found.rows})")
    if is_delta(plan):
        lines.append(
            f"  Preference pairs: made after your approval; {plan.strong_model} and {plan.weak_model} answer every prompt, "
            "and the first one's answers are preferred"
        )
    if plan.evaluation_dataset:
        lines.append(f"  Evaluation dataset: {plan.evaluation_dataset}")
    lines += [f"  Conversion, on a copy: {each.description} ({each.rows} rows)" for each in found.conversions]
    lines += [f"  Rows: {note}" for note in cut.notes]
    lines.append(f"  Candidates ({len(runs)}{', the default grid' if wish.grid.is_default else ''}):")
    lines += [f"    {number}. {describe(candidate)}" for number, candidate in enumerate(runs, 1)]
    lines.append(f"  Epochs: {plan.epochs:g}{_default(wish.epochs is None, 'min(5, ceil(2500 / rows))')}")
    batch = f"{plan.batch_size_samples} samples" if plan.batch_size_samples else "the base model's default"
    lines.append(f"  Batch: {batch}")
    if plan.max_context_length:
        lines.append(f"  Longer rows are cut at {plan.max_context_length} tokens")
    lines.append(f"  At most {plan.parallel} training jobs at a time{_default(wish.parallel is None)}")
    lines.append(
        f"  Evaluation: {_evaluation(plan)}{_default(wish.evaluation.path is None and not wish.evaluation.evaluator)}"
    )
    lines.append(f"  Full-data run of the winner: {_final_run(plan)}")
    lines.append(
        f"  Deployment: {'yes' + (f', as {plan.deployment}' if plan.deployment else '') if plan.deploy else 'no'}"
    )
    gates = [
        name for name, on in (("the plan", plan.approvals.plan), ("the promotion", plan.approvals.promotion)) if on
    ]
    lines.append(f"  Waits for your approval of: {' and '.join(gates) or 'nothing'}")
    lines += ["", "Estimated cost", *(f"  {line}" for line in breakdown(estimate, spent_seconds=0.0).splitlines())]
    return "\n".join([*lines, "", HOW_TO_ANSWER if plan.approvals.plan else GOES_ON])


def _default(is_default: bool, what: str = "") -> str:
    return f" (default{': ' + what if what else ''})" if is_default else ""


def _evaluation(plan: Plan) -> str:
    if plan.evaluation.path is EvaluationPath.EVALUATOR:
        return f"the evaluator {plan.evaluation.evaluator} scores each candidate's answers; the base model's at its best temperature"
    if plan.evaluation.path is EvaluationPath.GENERATED:
        return "the evaluator that I wrote (above) scores each candidate's answers; the base model's at its best temperature"
    return "validation loss on held-out rows"


def _final_run(plan: Plan) -> str:
    if plan.final_run:
        return f"yes, as {plan.output_model}" if plan.output_model else "yes"
    if plan.output_model:
        return f"no; the winner keeps its candidate's name, so {plan.output_model} is not used"
    return "no; the winner is the final model"
