"""The parts of the report that say what came out: scoreboard, winner, final run, held-out evaluation, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.agent.cost import breakdown, cost_range
from tunesmith.agent.document import Document, Range
from tunesmith.agent.durations import duration, duration_range
from tunesmith.agent.labels import Classification
from tunesmith.agent.markdown import block, inert, table
from tunesmith.agent.plan import Method
from tunesmith.agent.report_facts import EVALUATION_CURVES, HELD_OUT, SCOREBOARD, TRAINING_CURVES, ReportFacts, points
from tunesmith.agent.scoreboard import describe
from tunesmith.agent.tables import interval, scoreboard_table


def sweep(document: Document, facts: ReportFacts) -> str:
    """The scoreboard, how to read it, and its pictures."""
    if not document.candidates:
        return "## Scoreboard\n\nNo candidate was trained."
    board = scoreboard_table(
        document.candidates,
        winner=document.winner,
        costs=facts.costs,
        currency=facts.actual.currency,
        markdown=True,
    )
    parts = ["## Scoreboard", board, _SCOREBOARD_LEGEND]
    parts += [_picture(document, name, title) for name, title in (
        (SCOREBOARD, "Candidates with their intervals"),
        (EVALUATION_CURVES, "Loss on the rows that choose, by step"),
        (TRAINING_CURVES, "Training loss by step"),
    )]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


_SCOREBOARD_LEGEND = (
    "On the rows that choose. In brackets: the 95 % interval over rows (Wilson's on the effective number of rows; for losses a bootstrap). `loss` is in "
    "nats per trained token. `p (Holm)`: two-sided, by sign flips of the paired differences to the base model, corrected for the number of "
    "candidates; `better` asks for p below 0.05 and the right direction. A "
    "candidate's best checkpoint was chosen on these rows, too, so its figures flatter it a little: those of the report rows do not. The asterisk "
    "marks the candidate that went on."
)


def winner(document: Document) -> str:
    """Who went on, and why."""
    if document.winner is None:
        return ""
    chosen = next(
        (result for result in document.candidates if result.number and result.number == document.winner), None
    )
    title = f"{describe(chosen)[0].upper()}{describe(chosen)[1:]}." if chosen else "None: no candidate went on."
    return f"## Winner\n\n{title}\n\n{inert(document.reason)}"


def final_run(document: Document, facts: ReportFacts) -> str:
    """The run on all the data, or what took its place."""
    run = document.final
    if run is None:
        return ""
    trained = document.approved_plan is None or document.approved_plan.final_run
    what = "The winning settings, trained on all rows but those of the report." if trained else (
        "The plan has no final run: the winning candidate is the final model."
    )  # fmt: skip
    rows = [("Job", f"`{run.job}`"), ("Model", f"`{run.model}`" if run.model else "none"), ("State", run.state)]
    rows += [("Trained tokens", f"{run.tokens:,}")] if run.tokens is not None else []
    rows += [("Time", duration(run.seconds))] if run.seconds is not None else []
    rows += _last_metrics(facts.metrics.get("final run", ()))
    return f"## Final run\n\n{what}\n\n" + table(("", "value"), rows)


def _last_metrics(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    rows = []
    for key, label in (("loss", "Last training loss"), ("eval_loss", "Last evaluation loss")):
        recorded = points(records, key)
        if recorded:
            rows.append((label, f"{recorded[-1][1]:.4f} at step {recorded[-1][0]:g}"))
    return rows


def held_out(document: Document) -> str:
    """The final model against its base, label by label for a classification."""
    found = document.held_out
    if found is None:
        return "## Held-out evaluation\n\nNo final model was evaluated."
    unit = "nats per trained token" if found.metric == "loss" and is_per_token(document) else found.metric
    at = (
        f" (temperature {found.base_temperature:g}, its best of 0, 0.3, 0.7 and 1)"
        if found.base_temperature is not None
        else ""
    )
    rows = [
        (f"base model{at}", interval(found.base, 4), str(found.base.rows), str(found.base.invalid)),
        ("final model", interval(found.tuned, 4), str(found.tuned.rows), str(found.tuned.invalid)),
        (
            "final - base, paired",
            interval(found.difference, 4),
            str(found.difference.rows),
            str(found.difference.invalid),
        ),
    ]
    parts = [
        "## Held-out evaluation",
        "On rows that trained nothing and chose nothing.",
        table(("model", f"{unit} [95 % interval]", "rows", "invalid"), rows),
        f"{found.statement} The p-value is two-sided, by sign flips of the differences of the same rows.",
        _picture(document, HELD_OUT, "Before and after"),
    ]
    by_temperature = found.details.get("baseByTemperature", {})
    if by_temperature:
        shown = ", ".join(f"{temperature}: {mean:.4f}" for temperature, mean in by_temperature.items())
        parts.append(
            f"Mean score of the base model by temperature: {shown}. The best of these is what the final model is compared with."
        )
    if "preferenceAccuracy" in found.details:
        parts.append(
            f"The final model prefers the chosen answer in {found.details['preferenceAccuracy']:.1%} of the held-out pairs."
        )
    for key, title in (("base", "Base model"), ("tuned", "Final model")):
        if key in found.details:
            labels = Classification.model_validate(found.details[key])
            parts.append(f"### {title}, label by label\n\n{inert(labels.summary())}\n\n{labels.table()}")
    return "\n\n".join(part for part in parts if part)


def cost(document: Document, facts: ReportFacts) -> str:
    """Estimated against actual."""
    actual, estimated = facts.actual, document.estimate
    parts = ["## Cost Summary"]
    if estimated is None:
        return "\n\n".join([*parts, block("text", breakdown(actual))])
    rows = []
    for name, before, after in (
        ("Training", estimated.training_seconds, actual.training_seconds),
        ("Inference", estimated.inference_seconds, actual.inference_seconds),
        ("Total", estimated.total_seconds, actual.total_seconds),
    ):
        rows.append(
            (f"{name}, time", duration_range(before), duration(after.high), _delta(before, after.high, duration))
        )
    for name, before, after in (
        ("Training, tokens", estimated.training_tokens, actual.training_tokens),
        ("Inference, tokens", estimated.inference_tokens, actual.inference_tokens),
    ):
        if after:
            rows.append((name, f"{before:,}", f"{after:,}", f"{after - before:+,}"))
    for name, before, after in (
        ("Training, cost", estimated.training_cost, actual.training_cost),
        ("Inference, cost", estimated.inference_cost, actual.inference_cost),
        ("Total, cost", estimated.total_cost, actual.total_cost),
    ):
        if before is not None and after is not None:
            shown = _delta(before, after.high, lambda value: cost_range(Range(low=value, high=value), actual.currency))
            rows.append((name, cost_range(before, estimated.currency), cost_range(after, actual.currency), shown))
    parts.append(table(("", "estimated", "actual", "delta"), rows))
    parts.append("Training time is the sum over its jobs, of which several may run at once; the total is wall time.")
    phases = [*estimated.by_phase, *(phase for phase in actual.by_phase if phase not in estimated.by_phase)]
    none = Range(low=0.0, high=0.0)
    by_phase = [
        (
            phase.replace("_", " "),
            duration_range(estimated.by_phase[phase]) if phase in estimated.by_phase else "-",
            duration(actual.by_phase.get(phase, none).high),
        )
        for phase in phases
    ]
    parts.append(table(("phase", "estimated", "actual"), by_phase))
    parts.append(f"Basis of the estimate: {estimated.basis}.")
    if not estimated.currency:
        parts.append("No prices are set on this platform, so the cost is time only.")
    return "\n\n".join(parts)


def _delta(estimated: Range, actual: float, shown: Any) -> str:
    """How far outside the estimated range; a range that held is said to have held."""
    if estimated.low <= actual <= estimated.high:
        return "within"
    return f"+{shown(actual - estimated.high)}" if actual > estimated.high else f"-{shown(estimated.low - actual)}"


def is_per_token(document: Document) -> bool:
    """Whether losses are per trained token; those of preferences are per pair."""
    plan = document.approved_plan
    return plan is None or plan.method not in (Method.DPO, Method.ORPO)


def _picture(document: Document, name: str, title: str) -> str:
    return f"![{title}]({name})" if name in document.figures else ""
