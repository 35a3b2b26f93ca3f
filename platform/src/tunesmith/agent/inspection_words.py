"""An inspection in sentences, and what in it a person should be warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.agent.answers import AnswerKind
from tunesmith.agent.labels import IMBALANCED
from tunesmith.agent.rows import RowFormat

if TYPE_CHECKING:
    from tunesmith.agent.inspection import Inspection, Repeats

FORMATS = {
    RowFormat.CHAT: "conversations with assistant turns",
    RowFormat.PROMPTS_WITH_ANSWER: "prompts with their answer in `ground_truth`",
    RowFormat.PAIRS: "preference pairs",
    RowFormat.PROMPTS: "prompts without answers",
    RowFormat.COLUMNS: "columns with a prompt and its answer",
    RowFormat.UNKNOWN: "of no known format",
}
LABELS_SHOWN = 8
FEW_TRAINED = 0.05
"""Share of trained tokens below which somebody should look whether answers are where they belong."""


def sentences(found: Inspection) -> list[str]:
    """The facts, without the warnings."""
    reason = f" ({found.reason})" if found.reason else ""
    lines = [f"{_rows(found.rows)}: {FORMATS[found.format]}{reason}."]
    if found.roles:
        roles = ", ".join(f"{count} {role}" for role, count in found.roles.items())
        turns = (
            f"; {found.turns_mean:.1f} assistant turns a row, at most {found.turns_most}" if found.turns_most else ""
        )
        lines.append(f"Messages: {roles}{turns}.")
    has = {
        "a system message": found.with_system,
        "tools": found.with_tools,
        "tool calls": found.with_tool_calls,
        "reasoning": found.with_reasoning,
        "weights of messages": found.with_message_weights,
        "a weight of the row": found.with_row_weight,
    }
    if any(has.values()):
        lines.append("Rows with " + ", ".join(f"{what}: {count}" for what, count in has.items() if count) + ".")
    for model, tokens in found.tokens.items():
        about = "about " if tokens.is_estimate else ""
        lines.append(
            f"Tokens with {model.rpartition('/')[2]}: {about}{tokens.total:,}, of which {tokens.trained:,} are trained; a row has "
            f"{tokens.mean:.0f} on average, half at most {tokens.p50}, 95 % at most {tokens.p95}, the longest {tokens.longest} "
            f"(context: {tokens.context_length:,})."
        )
    lines.append(f"Answers: {found.answers.reason}" if found.answers.reason else "")
    if found.labels:
        shown = list(found.labels.counts.items())[:LABELS_SHOWN]
        more = f", and {len(found.labels.counts) - len(shown)} more" if len(found.labels.counts) > len(shown) else ""
        lines.append(f"Labels: {', '.join(f'{name} {count}' for name, count in shown)}{more}.")
    for change in found.conversions:
        lines.append(
            f"Conversion proposed: {change.description} ({_rows(change.rows)}, the first on line {change.line})."
        )
    return [line for line in lines if line]


def warnings(found: Inspection) -> list[str]:
    """What a person should know before paying for a training run."""
    told = []
    if found.bad_rows:
        first = found.bad_rows[0]
        told.append(
            f"{_rows(len(found.bad_rows))} cannot be used and will be left out: line {first.line}: {first.reason.rstrip('.')}."
        )
    told += _repeats(found.duplicates, "the same as an earlier row")
    only_prompt = found.repeated_prompts.rows - found.duplicates.rows
    if only_prompt > 0:
        told += [f"{_rows(only_prompt)} ask{_s(only_prompt)} what an earlier row asks, with another answer."]
    told += _repeats(found.empty_answers, "without an answer: the last assistant turn is empty")
    if found.leaks.rows:
        told += [
            f"{found.leaks.rows} of {_rows(found.evaluation_rows or 0)} of the evaluation dataset ask what a training row asks "
            f"({_lines(found.leaks)}); these training rows will be left out."
        ]
    for model, tokens in found.tokens.items():
        name = model.rpartition("/")[2]
        if tokens.over_context:
            told.append(
                f"{_rows(tokens.over_context)} are longer than the context of {tokens.context_length:,} tokens ({name}) and will be cut."
            )
        if found.method is not None and tokens.trained < FEW_TRAINED * tokens.total:
            told.append(f"Only {tokens.trained / max(1, tokens.total):.1%} of the tokens are trained ({name}).")
    if found.labels and found.labels.is_imbalanced:
        told.append(
            f"The commonest label is {found.labels.ratio:.0f} times as frequent as the rarest (from {IMBALANCED:.0f} on this is "
            f"imbalanced): {'; '.join(found.labels.mitigations)}."
        )
    if 0 < found.with_row_weight < found.usable_rows:
        told.append("A weight of the row must be on all rows or on none.")
    misfits = found.answers.misfits
    if misfits and found.answers.kind is not AnswerKind.NONE:
        told.append(f"Some answers are of another kind, such as line {misfits[0].line}: {misfits[0].text!r}.")
    return told


def _repeats(repeats: Repeats, what: str) -> list[str]:
    are = "is" if repeats.rows == 1 else "are"
    return [f"{_rows(repeats.rows)} {are} {what} ({_lines(repeats)})."] if repeats.rows else []


def _lines(repeats: Repeats) -> str:
    more = ", ..." if repeats.rows > len(repeats.lines) else ""
    return f"line{'s' if len(repeats.lines) > 1 else ''} {', '.join(map(str, repeats.lines))}{more}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _s(count: int) -> str:
    return "s" if count == 1 else ""
