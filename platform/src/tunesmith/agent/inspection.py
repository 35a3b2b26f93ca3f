"""What a dataset is made of: facts for the plan and its price, and what a person should know before paying for a training run.

One pass over the rows; memory grows by some bytes a row (keys of rows and prompts), not by the rows. Facts are about the rows with the
proposed conversions applied, since those are trained on; the format is that of the rows as uploaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.agent.answers import ROWS_READ, AnswerKind, Answers, known_labels, recognise
from tunesmith.agent.conversions import Conversion, Proposal
from tunesmith.agent.inspection_words import sentences, warnings
from tunesmith.agent.labels import Balance, balance, label_of
from tunesmith.agent.plan import Method
from tunesmith.agent.rows import (
    Row,
    RowFormat,
    Sample,
    answer_of,
    format_of,
    prompt_key,
    prompt_of,
    row_key,
    text_of,
    tool_calls_of,
)
from tunesmith.agent.tokens import TokenCounter, Tokens
from tunesmith.errors import InvalidArgument
from tunesmith.rendering.messages import normalize_messages
from tunesmith.rendering.renderer import Renderer
from tunesmith.schemas.wire import JobInput

BAD_LISTED = 1000
"""More rows than this that cannot be used, and the dataset cannot."""
LABELS_COUNTED = 2000
"""Different short answers that are kept to count labels; more are no labels."""
LABEL_LENGTH = 200
EXAMPLES = 5
"""Line numbers that are shown of what occurs often."""


class BadRow(JobInput):
    """A row that cannot be used."""

    line: int
    reason: str


class Repeats(JobInput):
    """Rows that occur again, without the first of each."""

    rows: int = 0
    lines: list[int] = []
    """The first few."""


class Inspection(JobInput):
    """Everything that was found."""

    rows: int
    format: RowFormat
    reason: str = ""
    """Why the format is unknown."""
    roles: dict[str, int] = {}
    """Messages by role."""
    turns_mean: float = 0.0
    turns_most: int = 0
    """Assistant turns of a row."""
    with_system: int = 0
    with_tools: int = 0
    with_tool_calls: int = 0
    with_reasoning: int = 0
    with_message_weights: int = 0
    with_row_weight: int = 0
    """Rows that have these."""
    duplicates: Repeats = Repeats()
    """Rows that are the same as an earlier one."""
    repeated_prompts: Repeats = Repeats()
    """Rows that ask the same as an earlier one (white space and case aside), with the same answer or another."""
    empty_answers: Repeats = Repeats()
    """Rows whose last assistant turn says nothing."""
    tokens: dict[str, Tokens] = {}
    """By base model."""
    answers: Answers = Answers(kind=AnswerKind.NONE)
    """What kind of answer an evaluator could check."""
    labels: Balance | None = None
    """Where answers are few and short."""
    evaluation_rows: int | None = None
    leaks: Repeats = Repeats()
    """Rows of the evaluation dataset that ask what a row of this one asks."""
    bad_rows: list[BadRow] = []
    """All of them, up to 1000."""
    conversions: list[Conversion] = []
    """Proposed; the facts are about the rows with these applied."""
    warnings: list[str] = []

    @property
    def usable_rows(self) -> int:
        """Rows without the bad ones."""
        return self.rows - len(self.bad_rows)

    @property
    def method(self) -> Method | None:
        """What the data can be trained with, as it is; None for prompts without answers, and for unknown formats."""
        if self.format is RowFormat.PAIRS:
            return Method.DPO
        return None if self.format in (RowFormat.PROMPTS, RowFormat.UNKNOWN) else Method.SFT

    def summary(self) -> str:
        """The facts in sentences, one a line, warnings last."""
        return "\n".join([*sentences(self), *(f"Warning: {text}" for text in self.warnings)])


def inspect(
    rows: Iterable[Row],
    renderers: Mapping[str, Renderer] | None = None,
    *,
    evaluation_rows: Iterable[Row] | None = None,
    max_context_length: int | None = None,
    labels_wanted: bool = False,
) -> Inspection:
    """Look at a dataset.

    Args:
        rows: as uploaded, in order.
        renderers: by base model; the tokens are counted with each.
        evaluation_rows: the user's own evaluation dataset, looked at for leaks only.
        max_context_length: what rows are cut at, in tokens; None: the model's.
        labels_wanted: a classification: few different numbers are labels, too.

    What is wrong with the data is told, never raised.
    """
    pass_ = _Pass({name: TokenCounter(one, max_context_length) for name, one in (renderers or {}).items()})
    for line, row in enumerate(rows, start=1):
        pass_.look(row, line)
    return pass_.found(evaluation_rows, labels_wanted)


@dataclass
class _Pass:
    """One pass over the rows."""

    counters: dict[str, TokenCounter]
    rows: int = 0
    formats: Counter[RowFormat] = field(default_factory=Counter)
    with_: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    bad_count: int = 0
    duplicates: Repeats = field(default_factory=Repeats)
    prompts: Repeats = field(default_factory=Repeats)
    empty: Repeats = field(default_factory=Repeats)
    labels: Counter[str] = field(default_factory=Counter)
    proposal: Proposal = field(default_factory=Proposal)
    seen_rows: set[int] = field(default_factory=set)
    seen_prompts: set[int] = field(default_factory=set)
    answered: Sample[tuple[int, Row]] = field(default_factory=lambda: Sample(ROWS_READ))

    def look(self, row: Row, line: int) -> None:
        self.rows += 1
        kind = format_of(row)
        self.formats[kind] += 1
        problem = _problem(row)
        if problem is not None:
            return self._leave_out(line, problem)
        whole, row = row_key(row), self.proposal.convert(row, line)
        asked = prompt_key(row)
        problem = self._count_tokens(row, asked)
        if problem is not None:
            return self._leave_out(line, problem)
        _note(self.duplicates, self.seen_rows, whole, line)
        _note(self.prompts, self.seen_prompts, asked, line)
        self._features(row, line)
        if self.answered.wants(asked):
            self.answered.add(asked, (line, row))
        found = label_of(row)
        if found is not None and len(found) <= LABEL_LENGTH and len(self.labels) <= LABELS_COUNTED:
            self.labels[found] += 1

    def _leave_out(self, line: int, reason: str) -> None:
        self.bad_count += 1
        if len(self.bad) < BAD_LISTED:
            self.bad.append(BadRow(line=line, reason=reason))

    def found(self, evaluation_rows: Iterable[Row] | None, labels_wanted: bool) -> Inspection:
        format_, reason = self._format()
        lined = self.answered.items
        answers = recognise([row for _, row in lined], labels_wanted=labels_wanted, lines=[line for line, _ in lined])
        if (
            answers.kind is AnswerKind.LABEL and len(self.labels) <= LABELS_COUNTED
        ):  # of all rows, not only of the sample
            answers.labels = known_labels(self.labels.elements()) or answers.labels
        known = {name: tokens for name, counter in self.counters.items() if (tokens := counter.found())}
        made = Inspection(
            rows=self.rows,
            format=format_,
            reason=reason,
            roles=dict(self.roles.most_common()),
            turns_mean=sum(turns * n for turns, n in self.turns.items()) / max(1, self.turns.total()),
            turns_most=max(self.turns, default=0),
            duplicates=self.duplicates,
            repeated_prompts=self.prompts,
            empty_answers=self.empty,
            tokens=known,
            answers=answers,
            labels=balance(self.labels.elements()) if answers.kind is AnswerKind.LABEL else None,
            bad_rows=self.bad,
            conversions=self.proposal.conversions,
            with_system=self.with_["with_system"],
            with_tools=self.with_["with_tools"],
            with_tool_calls=self.with_["with_tool_calls"],
            with_reasoning=self.with_["with_reasoning"],
            with_message_weights=self.with_["with_message_weights"],
            with_row_weight=self.with_["with_row_weight"],
        )
        if evaluation_rows is not None:
            made.evaluation_rows, made.leaks = self._leaks(evaluation_rows)
        made.warnings = warnings(made)
        return made

    def _format(self) -> tuple[RowFormat, str]:
        if not self.rows:
            return RowFormat.UNKNOWN, "the dataset has no rows"
        if self.bad_count > BAD_LISTED or self.bad_count == self.rows:
            first = self.bad[0]
            reason = f"{self.bad_count} of {self.rows} rows cannot be used (line {first.line}: {first.reason})"
            return RowFormat.UNKNOWN, reason
        groups = {RowFormat.PAIRS: "pairs", RowFormat.PROMPTS: "prompts", RowFormat.UNKNOWN: "unknown"}
        kinds = {groups.get(kind, "answered") for kind in self.formats} - {"unknown"}
        if len(kinds) > 1:
            listed = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in self.formats.most_common())
            return RowFormat.UNKNOWN, f"the rows are of several formats: {listed}"
        return max(
            (kind for kind in self.formats if kind is not RowFormat.UNKNOWN), key=lambda kind: self.formats[kind]
        ), ""

    def _count_tokens(self, row: Row, key: int) -> str | None:
        for counter in self.counters.values():
            try:
                counter.count(row, key)
            except InvalidArgument as error:
                return error.message
        return None

    def _features(self, row: Row, line: int) -> None:
        messages = [*prompt_of(row), *([answer] if (answer := answer_of(row)) else [])]
        roles = [str(message.get("role")) for message in messages]
        self.roles.update(roles)
        self.turns[roles.count("assistant")] += 1
        inner = row["input"] if isinstance(row.get("input"), dict) else row
        has = {
            "with_system": "system" in roles or "developer" in roles,
            "with_tools": bool(inner.get("tools")),
            "with_tool_calls": any(message.get("tool_calls") for message in messages),
            "with_reasoning": any(m.get("reasoning_content") or m.get("reasoning") for m in messages),
            "with_message_weights": any(message.get("weight") is not None for message in messages),
            "with_row_weight": row.get("weight") is not None,
        }
        self.with_.update(name for name, true in has.items() if true)
        if answer is not None and not text_of(answer).strip() and not tool_calls_of(answer):
            _add(self.empty, line)

    def _leaks(self, evaluation_rows: Iterable[Row]) -> tuple[int, Repeats]:
        leaks, proposal, count = Repeats(), Proposal(), 0
        for line, row in enumerate(evaluation_rows, start=1):
            count = line
            if prompt_key(proposal.convert(row, line)) in self.seen_prompts:
                _add(leaks, line)
        return count, leaks


def _problem(row: Row) -> str | None:
    """What is wrong with a row before any model is asked; None when nothing is."""
    if format_of(row) is RowFormat.UNKNOWN:
        return "it has neither messages, nor a preference pair, nor columns of a prompt and its answer"
    if format_of(row) is RowFormat.COLUMNS:
        return None
    conversations: list[Any] = [row.get("messages")]
    if format_of(row) is RowFormat.PAIRS:
        outputs = [row.get(key) for key in ("preferred_output", "non_preferred_output")]
        if any(not isinstance(output, list) or len(output) != 1 for output in outputs):
            return "preferred_output and non_preferred_output must each be a list of one message"
        if outputs[0] == outputs[1]:
            return "preferred_output and non_preferred_output are the same answer"
        conversations = [row["input"].get("messages"), *outputs]
    try:
        for messages in conversations:
            normalize_messages(messages if isinstance(messages, Sequence) else [])
    except InvalidArgument as error:
        return error.message
    return None


def _note(repeats: Repeats, seen: set[int], key: int, line: int) -> None:
    if key in seen:
        _add(repeats, line)
    seen.add(key)


def _add(repeats: Repeats, line: int) -> None:
    repeats.rows += 1
    if len(repeats.lines) < EXAMPLES:
        repeats.lines.append(line)
