"""`final_report.md`: everything that a session decided, measured and spent, with where each number comes from and how to get it again.

The report is written from the document alone, and from facts about the run that the document does not hold (`ReportFacts`). A part whose
phase was not reached says so, or is left out; nothing is claimed that is not in the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.agent.document import Document, Run
from tunesmith.agent.durations import duration
from tunesmith.agent.figures import Curve, curves, held_out_figure, scoreboard_figure
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.markdown import block, inert, table
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.agent.report_facts import EVALUATION_CURVES, HELD_OUT, SCOREBOARD, TRAINING_CURVES, ReportFacts, points
from tunesmith.agent.report_results import cost, final_run, held_out, is_per_token, sweep, winner
from tunesmith.schemas.names import short_id


def figures(document: Document, metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """SVG text by file name, of whatever there is to draw."""
    found = {}
    for file, key, title, label in (
        (TRAINING_CURVES, "loss", "Training loss", "loss of a batch"),
        (EVALUATION_CURVES, "eval_loss", "Loss on the rows that choose", _loss_unit(document)),
    ):
        lines = [Curve(name, points(records, key)) for name, records in metrics.items()]
        if any(line.points for line in lines):
            found[file] = curves(title, "optimizer step", label, lines)
    if any(result.loss or result.score for result in document.candidates):
        found[SCOREBOARD] = scoreboard_figure(document.candidates, _metric(document), document.winner)
    if document.held_out is not None and document.held_out.difference.rows:
        found[HELD_OUT] = held_out_figure(document.held_out)
    return found


def report(document: Document, facts: ReportFacts) -> str:
    """The Markdown text. Its pictures are those of `document.figures`."""
    parts = [
        f"# Final report of session {short_id(facts.session)}",
        _summary(document, facts),
        _access(document),
        _plan(document, facts),
        _data(document, facts),
        sweep(document, facts),
        winner(document),
        final_run(document, facts),
        held_out(document),
        cost(document, facts),
        _provenance(document, facts),
        _again(document, facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(document: Document, facts: ReportFacts) -> str:
    lines = [f"> {inert(line)}" for line in (facts.instruction or "(the session was given a plan)").splitlines()]
    lines += [
        "",
        f"From {facts.started} to {facts.ended}, {duration(facts.actual.total_seconds.high)} of them at work.",
    ]
    if document.held_out is not None:
        lines += ["", f"**{document.held_out.statement}**"]
    elif document.message:
        lines += ["", document.message]
    return "\n".join(lines)


def _access(document: Document) -> str:
    model = document.final.model if document.final else None
    deployed = document.deployed
    if deployed is None:
        if model is None:
            return "## How To Access The Final Model\n\nThere is no final model."
        return f"## How To Access The Final Model\n\nThe model `{model}` is not deployed; model calls may name it all the same."
    return (
        "## How To Access The Final Model\n\n"
        f"- Model: `{deployed.model}`\n- Deployment: `{deployed.deployment}`\n- Endpoint: `{deployed.endpoint}`\n\n"
        f"{block('python', deployed.snippet)}"
    )


def _plan(document: Document, facts: ReportFacts) -> str:
    plan = document.approved_plan
    if plan is None:
        return "## The plan\n\nNo plan was approved."
    understood = "\n".join(f"- {inert(line)}" for line in document.understood)
    parts = [
        "## The plan, as approved",
        f"What was understood:\n\n{understood}" if understood else "",
        _plan_table(plan),
    ]
    if document.evaluator:
        source = "was written from the data" if plan.evaluation.path is EvaluationPath.GENERATED else "was given"
        parts.append(f"Evaluator `{document.evaluator}`, which {source}.")
    for name, text in document.generated.items():
        if name == "validation":
            parts.append(text)
        elif name.endswith(".py"):
            parts.append(f"`{name}`:\n\n{block('python', text)}")
    return "\n\n".join(part for part in parts if part)


def _plan_table(plan: Plan) -> str:
    grid = "; ".join(
        f"rank {point.lora_rank or 'full'}, learning rate {point.learning_rate:g}"
        + (f", beta {point.beta:g}" if point.beta is not None else "")
        for point in plan.grid.points
    )
    rows = [
        ("Method", plan.method),
        ("Dataset", plan.dataset),
        ("Evaluation dataset", plan.evaluation_dataset),
        ("Preferred answers by", plan.strong_model),
        ("Other answers by", plan.weak_model),
        ("Base models", ", ".join(plan.base_models)),
        ("Settings tried on each", grid),
        ("Epochs", f"{plan.epochs:g}" if plan.epochs is not None else None),
        ("Rows of the sweep", "all" if plan.subsample == 0 else plan.subsample),
        ("Training jobs at a time", plan.parallel),
        ("Batch", f"{plan.batch_size_samples} samples" if plan.batch_size_samples else None),
        ("Longest context", f"{plan.max_context_length} tokens" if plan.max_context_length else None),
        ("Candidates are compared by", (plan.evaluation.path or "validation_loss").replace("_", " ")),
        ("Final run on all data", "yes" if plan.final_run else "no"),
        ("Deployment", "yes" if plan.deploy else "no"),
        ("Seed", plan.seed),
    ]
    return table(("", "value"), [(name, str(value)) for name, value in rows if value is not None and value != ""])


def _data(document: Document, facts: ReportFacts) -> str:
    parts = ["## Data"]
    for name, found in document.inspection.items():
        seen = Inspection.model_validate(found)
        parts.append(f"### `{name}`\n\n" + "\n".join(f"- {inert(line)}" for line in seen.summary().splitlines()))
        if seen.conversions:
            rows = [(each.description, str(each.rows), str(each.line)) for each in seen.conversions]
            parts.append("Conversions, on a copy:\n\n" + table(("what", "rows", "first line"), rows))
    if facts.notes:
        parts.append("\n".join(f"- {note}" for note in facts.notes))
    if facts.datasets:
        rows = [(each.role, f"`{each.name}`", str(each.rows), f"`{each.sha256}`") for each in facts.datasets]
        parts.append("Which rows did what:\n\n" + table(("role", "dataset", "rows", "sha256"), rows))
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _provenance(document: Document, facts: ReportFacts) -> str:
    rows = [("Session", f"`{facts.session}`")]
    rows += [(f"Candidate {one.number}", _run(one.run)) for one in document.candidates if one.number and one.run]
    rows += [("Final run", _run(document.final))] if document.final else []
    plan = document.approved_plan
    rows += [("Base model", f"`{name}`") for name in (plan.base_models if plan else [])]
    rows += [("Evaluator", f"`{document.evaluator}`")] if document.evaluator else []
    rows += [("Seed of splits and subsample", str(plan.seed))] if plan else []
    rows += [(name, version) for name, version in facts.versions.items()]
    return "## Provenance\n\n" + table(("", "what"), rows)


def _run(run: Run) -> str:
    return f"`{run.job}`" + (f" -> `{run.model}`" if run.model else "")


def _again(document: Document, facts: ReportFacts) -> str:
    """The commands that show each number, or make it anew."""
    session, plan = short_id(facts.session), document.approved_plan
    verb = "dpoj" if plan and plan.method in (Method.DPO, Method.ORPO) else "sftj"
    lines = [
        "# this report, its plan and every line of the session's history",
        f"tunesmith session get {session} --json",
        f"tunesmith session events {session}",
    ]
    for one in [*(result.run for result in document.candidates if result.number and result.run), document.final]:
        if one is not None:
            lines.append(f"tunesmith {verb} metrics {short_id(one.job)}")
    if facts.datasets:
        lines.append("# the rows: of the sweep, those that chose, those that reported")
        lines += [f"tunesmith dataset download {short_id(each.name)}" for each in facts.datasets]
    if facts.scored:
        lines.append("# every answer with its score, from which the means, intervals and p-values follow")
        lines += [f"tunesmith dataset download {name}" for name in facts.scored]
    lines += _compared(document, facts)
    if plan is not None:
        lines += ["# all of it again, from the plan (save it first)", "tunesmith session create --plan plan.json"]
    parts = ["## How to get each number again", block("bash", "\n".join(lines))]
    if plan is not None:
        text = plan.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        parts.append(f"`plan.json`, every field decided:\n\n{block('json', text)}")
    return "\n\n".join(parts)


def _compared(document: Document, facts: ReportFacts) -> list[str]:
    """The command that makes the held-out comparison anew from the scored rows."""
    held_out = document.held_out
    if held_out is None or held_out.base_temperature is None:
        return []
    end = f"-report-base-t{round(10 * held_out.base_temperature)}"
    base = next((name for name in facts.scored if name.endswith(end)), None)
    tuned = next((name for name in facts.scored if name.endswith("-report-final")), None)
    if base is None or tuned is None:
        return []
    return [
        "# the held-out difference, its interval and its p-value, from these rows",
        f"tunesmith session compare {base}.jsonl {tuned}.jsonl",
    ]


def _metric(document: Document) -> str:
    return "score" if any(result.score for result in document.candidates) else "loss"


def _loss_unit(document: Document) -> str:
    return "nats per trained token" if is_per_token(document) else "loss of a pair"
