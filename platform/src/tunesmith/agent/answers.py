"""What kind of answer a dataset asks for, and how it is marked in the text: found in the data, never guessed.

A kind is supported when at least 95 % of the rows fit it; what does not fit is shown. Where a row has both `ground_truth` and an
assistant's turn, the turn shows how answers are written, and it must say what `ground_truth` says.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from tunesmith.agent import json_schemas
from tunesmith.agent.conversions import answer_text, one_label
from tunesmith.agent.rows import Row, Sample, answer_of, gold_of, prompt_key, text_of, tool_calls_of
from tunesmith.agent.templates import answer_is, box, exact, hashes, json_value, label, number, tags, tool_calls, whole
from tunesmith.schemas.wire import JobInput

SUPPORTED = 0.95
"""Share of the rows that must fit."""
FEWEST_ROWS = 5
ROWS_READ = 5000
"""Of larger datasets a sample of so many rows, chosen by what they ask, is read."""
LABEL_MOST = 100
LABEL_LENGTH = 60
LABEL_REPEATS = 4
"""How often labels occur on average: where texts repeat less, they are answers of their own."""
EXACT_LENGTH = 60
EXACT_WORDS = 8
"""Characters and words of a short text; more than that can be said in other words."""
SHOWN = 3
"""Examples and misfits that are kept."""


class AnswerKind(StrEnum):
    """What can be checked objectively."""

    NUMBER = "number"
    JSON = "json"
    LABEL = "label"
    EXACT = "exact"
    TOOL_CALLS = "tool_calls"
    NONE = "none"


class Marker(StrEnum):
    """How the answer is marked in the text."""

    WHOLE = "whole"
    """Not at all: the text is the answer."""
    TAGS = "tags"
    """`<answer>42</answer>`"""
    BOX = "box"
    r"""`\boxed{42}`"""
    HASHES = "hashes"
    """`#### 42`"""
    ANSWER_IS = "answer_is"
    """`The answer is 42.`"""


MARKED: Mapping[Marker, Callable[[str], str | None]] = {
    Marker.TAGS: tags.marked,
    Marker.BOX: box.marked,
    Marker.HASHES: hashes.marked,
    Marker.ANSWER_IS: answer_is.marked,
    Marker.WHOLE: whole.marked,
}
IN_WORDS = {
    AnswerKind.NUMBER: "numbers",
    AnswerKind.JSON: "JSON",
    AnswerKind.LABEL: "labels",
    AnswerKind.EXACT: "short texts",
    AnswerKind.TOOL_CALLS: "tool calls",
}
MARKED_IN_WORDS = {
    Marker.WHOLE: "",
    Marker.TAGS: " in <answer> tags",
    Marker.BOX: " in \\boxed{}",
    Marker.HASHES: " behind ####",
    Marker.ANSWER_IS: ' behind "The answer is"',
}


class Example(JobInput):
    """An answer as it stands in the data."""

    line: int
    text: str


class Answers(JobInput):
    """What was recognised."""

    kind: AnswerKind
    marker: Marker = Marker.WHOLE
    confidence: float = 0.0
    """Share of the rows that fit."""
    rows: int = 0
    """Rows that were read."""
    labels: list[str] = []
    """Kind `label`: all of them, the commonest first."""
    json_schema: dict[str, Any] = {}
    """Kind `json`: what all of them fit."""
    examples: list[Example] = []
    misfits: list[Example] = []
    """Rows that do not fit."""
    reason: str = ""
    """What was found, in a sentence; for kind `none`, why nothing can be checked."""

    @property
    def is_supported(self) -> bool:
        """Whether an evaluator can be written for them."""
        return self.kind is not AnswerKind.NONE


@dataclass(frozen=True)
class Reader:
    """Reads answers of one kind and compares them, by the code that generated evaluators hold."""

    answer: Callable[[Mapping[str, Any]], Any]
    """From an assistant message: its answer, or None."""
    gold: Callable[[Any], Any]
    """From a `ground_truth`: the answer, or None."""
    same: Callable[[Any, Any], bool]


def reader(answers: Answers) -> Reader:
    """The reader for what was recognised. Raises ValueError for kind `none`."""
    if answers.kind is AnswerKind.TOOL_CALLS:
        return Reader(
            lambda message: tool_calls.calls_of(message.get("tool_calls")),
            tool_calls.calls_of,
            tool_calls.same_calls,
        )
    strict, lenient, same = _values(answers.kind, answers.labels)
    marked = MARKED[answers.marker]

    def answer(message: Mapping[str, Any]) -> Any:
        found = marked(text_of(message))
        return None if found is None else lenient(found)

    def gold(ground_truth: Any) -> Any:
        text = answer_text(ground_truth) if answers.kind is AnswerKind.JSON else _text(ground_truth)
        return strict(marked(text) or text)

    return Reader(answer, gold, same)


def recognise(rows: Iterable[Row], *, labels_wanted: bool = False, lines: Iterable[int] | None = None) -> Answers:
    """What kind of answer the rows ask for.

    Args:
        rows: converted ones; of more than 5000 a sample is read.
        labels_wanted: a classification, so that few different numbers are labels, too.
        lines: the rows' line numbers; default: from 1 on.
    """
    sample: Sample[tuple[int, Row]] = Sample(ROWS_READ)
    for line, row in zip(lines or itertools.count(1), rows):  # noqa: B905 - lines may go on for ever
        key = prompt_key(row)
        if sample.wants(key):
            sample.add(key, (line, row))
    lined = sample.items
    answered = [(line, row, gold) for line, row in lined if (gold := gold_of(row)) not in (None, "", [])]
    if len(lined) < FEWEST_ROWS:
        return _none(
            lined, f"{len(lined)} rows are too few to recognise the kind of their answers; it takes {FEWEST_ROWS}"
        )
    if len(answered) < SUPPORTED * len(lined):
        misfits = [(line, row) for line, row in lined if gold_of(row) in (None, "", [])]
        return _none(lined, f"{len(misfits)} of {len(lined)} rows have no answer", misfits)
    calls = [(line, row, gold) for line, row, gold in answered if _calls_tools(row, gold)]
    if calls:
        return _tool_calls(lined, answered, calls)
    marker, marked_share = _marker(answered)
    if 0.5 <= marked_share < SUPPORTED:
        unmarked = [(line, row) for line, row, gold in answered if MARKED[marker](_written(row, gold)) is None]
        return _none(
            lined, f"{marked_share:.0%} of the answers stand{MARKED_IN_WORDS[marker]}, the others do not", unmarked
        )
    if marked_share < SUPPORTED:
        marker = Marker.WHOLE
    return _recognise_values(lined, answered, marker, labels_wanted)


def _recognise_values(
    lined: list[tuple[int, Row]], answered: list[tuple[int, Row, Any]], marker: Marker, labels_wanted: bool
) -> Answers:
    lists = any(isinstance(gold, list) and one_label(gold) is None for _, _, gold in answered)
    as_text = answer_text if lists else _text
    texts = {line: _inner(as_text(gold), marker) for line, _, gold in answered}
    labels = known_labels(texts.values())
    order = [AnswerKind.JSON, AnswerKind.NUMBER, AnswerKind.LABEL, AnswerKind.EXACT]
    if labels_wanted:
        order = [AnswerKind.LABEL, AnswerKind.JSON, AnswerKind.NUMBER, AnswerKind.EXACT]
    best: tuple[float, AnswerKind, list[tuple[int, Row]]] = 0.0, AnswerKind.NONE, []
    for kind in order:
        if kind is AnswerKind.LABEL and not labels:
            continue
        strict, _, _ = _values(kind, labels)
        values = {line: value for line, text in texts.items() if (value := strict(text)) is not None}
        misfits = [(line, row) for line, row in lined if line not in values]
        share = 1 - len(misfits) / len(lined)
        if share > best[0]:
            best = share, kind, misfits
        if share < SUPPORTED:
            continue
        if len(set(map(repr, values.values()))) == 1:
            return _none(lined, "every row has the same answer, so that answers tell models apart in nothing")
        schema = json_schemas.infer(list(values.values())) if kind is AnswerKind.JSON else {}
        found = Answers(
            kind=kind,
            marker=marker,
            confidence=share,
            rows=len(lined),
            labels=labels if kind is AnswerKind.LABEL else [],
            json_schema=schema,
            examples=_examples([(line, row) for line, row in lined if line in values]),
            misfits=_examples(misfits),
        )
        found.reason = f"{share:.0%} of the answers are {IN_WORDS[kind]}{MARKED_IN_WORDS[marker]}."
        return _confirmed(found, lined)
    share, kind, misfits = best
    if share >= 0.5:
        return _none(lined, f"only {share:.0%} of the answers are {IN_WORDS[kind]}{MARKED_IN_WORDS[marker]}", misfits)
    words = sorted(len(text.split()) for text in texts.values())
    return _none(lined, f"the answers are free text ({words[len(words) // 2]} words in the middle)", lined)


def _confirmed(found: Answers, lined: list[tuple[int, Row]]) -> Answers:
    """Lowers the confidence by the rows whose own assistant's turn would not be scored as right."""
    read = reader(found)
    wrong = []
    for line, row in lined:
        turn = answer_of(row)
        if turn is None:
            continue
        answer, gold = read.answer(turn), read.gold(gold_of(row))
        if gold is not None and (answer is None or not read.same(answer, gold)):
            wrong.append((line, row))
    misfits = {example.line for example in found.misfits}
    if not wrong:
        return found
    found.confidence -= len(wrong) / len(lined)
    if found.confidence >= SUPPORTED:
        found.misfits = [*found.misfits, *_examples([item for item in wrong if item[0] not in misfits])][:SHOWN]
        return found
    return _none(
        lined,
        f"the assistant's turn does not give the answer of `ground_truth` in {len(wrong)} of {len(lined)} rows",
        wrong,
    )


def _tool_calls(
    lined: list[tuple[int, Row]], answered: list[tuple[int, Row, Any]], calls: list[tuple[int, Row, Any]]
) -> Answers:
    share = len(calls) / len(lined)
    called = {line for line, _, _ in calls}
    misfits = [(line, row) for line, row in lined if line not in called]
    if share < SUPPORTED:
        return _none(lined, f"{share:.0%} of the rows end in tool calls, the others in text", misfits)
    found = Answers(
        kind=AnswerKind.TOOL_CALLS,
        confidence=share,
        rows=len(lined),
        examples=_examples([(line, row) for line, row, _ in calls]),
        misfits=_examples(misfits),
        reason=f"{share:.0%} of the answers are tool calls.",
    )
    if len({repr(tool_calls.calls_of(gold)) for _, _, gold in calls}) == 1:
        return _none(lined, "every row has the same answer, so that answers tell models apart in nothing")
    return found


def _calls_tools(row: Row, gold: Any) -> bool:
    turn = answer_of(row)
    if turn is not None and not tool_calls_of(turn):
        return False
    return bool(row.get("tools") or turn) and isinstance(gold, list) and tool_calls.calls_of(gold) is not None


def _marker(answered: Sequence[tuple[int, Row, Any]]) -> tuple[Marker, float]:
    """The marker that most answers carry, and their share."""
    shares = {
        marker: sum(marked(_written(row, gold)) is not None for _, row, gold in answered) / len(answered)
        for marker, marked in MARKED.items()
        if marker is not Marker.WHOLE
    }
    best = max(shares, key=lambda marker: shares[marker])
    return best, shares[best]


def _written(row: Row, gold: Any) -> str:
    """How the answer is written: the assistant's turn where there is one, else the gold answer."""
    turn = answer_of(row)
    return answer_text(gold) if turn is None else text_of(turn)


def _text(gold: Any) -> str:
    """A gold answer as text; a list of one label is that label."""
    single = one_label(gold)
    return answer_text(gold) if single is None else single


def _inner(text: str, marker: Marker) -> str:
    return MARKED[marker](text) or text


def known_labels(texts: Iterable[str]) -> list[str]:
    """The labels that texts are, the commonest first; empty when they are no labels."""
    spellings: dict[str, Counter[str]] = {}
    for text in texts:
        plain = " ".join(text.split())
        if plain and len(plain) <= LABEL_LENGTH and "\n" not in text.strip():
            spellings.setdefault(label.normal(plain), Counter())[plain] += 1
    spellings.pop("", None)
    repeated = {key: counts for key, counts in spellings.items() if counts.total() > 1}
    total = sum(counts.total() for counts in spellings.values())
    if not 2 <= len(repeated) <= LABEL_MOST or len(spellings) * LABEL_REPEATS > total:
        return []
    order = sorted(spellings.values(), key=lambda counts: (-counts.total(), min(counts)))
    return [counts.most_common(1)[0][0] for counts in order]


def _values(
    kind: AnswerKind, labels: list[str]
) -> tuple[Callable[[str], Any], Callable[[str], Any], Callable[[Any, Any], bool]]:
    """How gold answers are read, how a model's are read, how two are compared."""
    if kind is AnswerKind.NUMBER:
        return number.value_of, lambda text: number.value_of(text) or number.last_number(text), number.same
    if kind is AnswerKind.JSON:
        return json_value.value_of, json_value.value_of, json_value.same
    if kind is AnswerKind.LABEL:
        known = {label.normal(item): item for item in labels}
        return lambda text: known.get(label.normal(text)), partial(label.value_of, labels=labels), label.same
    if kind is AnswerKind.EXACT:
        return _short, exact.value_of, exact.same
    raise ValueError(f"There is no reader for answers of kind {kind}.")


def _short(text: str) -> str | None:
    """A text that is short enough to be compared as it is."""
    value = exact.value_of(text)
    if value is None or len(value) > EXACT_LENGTH or len(value.split()) > EXACT_WORDS or "\n" in text.strip():
        return None
    return None if value.endswith((".", "!", "?")) and len(value.split()) > 3 else value


def _none(lined: list[tuple[int, Row]], reason: str, misfits: Sequence[tuple[int, Row]] = ()) -> Answers:
    return Answers(
        kind=AnswerKind.NONE, rows=len(lined), misfits=_examples(misfits), reason=f"{reason[0].upper()}{reason[1:]}."
    )


def _examples(rows: Sequence[tuple[int, Row]]) -> list[Example]:
    return [Example(line=line, text=_shown(answer_text(gold_of(row) or ""))) for line, row in rows[:SHOWN]]


def _shown(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
