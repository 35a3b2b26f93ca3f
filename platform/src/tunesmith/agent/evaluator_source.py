"""Writes an evaluator for the answers that were recognised in a dataset, and judges whether it may be used.

The evaluator is a readable Python file with one `@evaluation_test`, made of the very functions that recognised the answers
(`agent.templates`): a person may edit it, or take it along. It holds nothing of the user's data but labels and a schema.
Before it is used, gold answers must score 1 and answers of other rows 0.
"""

from __future__ import annotations

import ast
import inspect as python_source
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tunesmith.agent import evaluator_frames as frames
from tunesmith.agent.answers import MARKED_IN_WORDS, AnswerKind, Answers, Marker, reader
from tunesmith.agent.document import Question
from tunesmith.agent.markdown import block, inert
from tunesmith.agent.python_text import literal
from tunesmith.agent.rows import Row, answer_of
from tunesmith.agent.templates import (
    answer_is,
    box,
    exact,
    hashes,
    json_schema,
    json_value,
    label,
    number,
    tags,
    tool_calls,
    whole,
)

FILE, SPEC, REQUIREMENTS = "evaluator.py", "eval_spec.md", "requirements.txt"
FUNCTION = "answer_is_right"
ENTRY_POINT = f"{FILE}::{FUNCTION}"
SHUFFLED_MOST = 0.02
"""Mean score that answers of other rows may have, where they differ from the row's own."""

_MARKERS: dict[Marker, ModuleType] = {
    Marker.WHOLE: whole,
    Marker.TAGS: tags,
    Marker.BOX: box,
    Marker.HASHES: hashes,
    Marker.ANSWER_IS: answer_is,
}
_VALUES: dict[AnswerKind, tuple[ModuleType, ...]] = {
    AnswerKind.NUMBER: (number,),
    AnswerKind.JSON: (json_value, json_schema),
    AnswerKind.LABEL: (label,),
    AnswerKind.EXACT: (exact,),
    AnswerKind.TOOL_CALLS: (json_value, tool_calls),
}
_ONLY_IN_JSON = frozenset({"FENCE", "value_of", "right_share", "refuse"})
"""Of `json_value`: what an evaluator of tool calls has no use for."""


@dataclass(frozen=True)
class Verdict:
    """Whether a generated evaluator may be used."""

    ok: bool
    reason: str
    """What was seen; where it may not be used, why."""
    gold: float
    """Mean score of gold answers."""
    shuffled: float
    """Mean score of other rows' answers, of those that differ from the row's own."""


def write(answers: Answers) -> dict[str, str]:
    """The files of the evaluator's project by name: `evaluator.py`, `eval_spec.md`, `requirements.txt`.

    The same text for the same answers. Raises ValueError for kind `none`: then `question` asks.
    """
    if not answers.is_supported:
        raise ValueError(f"No evaluator can be written: {answers.reason}")
    return {FILE: _source(answers), SPEC: _spec(answers), REQUIREMENTS: "eval-protocol\n"}


def question(answers: Answers) -> Question:
    """What to ask when the data supports no evaluator."""
    shown = "; ".join(f"line {each.line}: {each.text!r}" for each in answers.misfits)
    return Question(
        field="evaluation.path",
        text=(
            f"I cannot write an evaluator for this data: {answers.reason}{f' For example {shown}.' if shown else ''} "
            "Shall I use validation loss, or an evaluator of yours (name it)?"
        ),
        choices=["Use validation loss for evaluation."],
    )


def validate(gold: Sequence[float | None], shuffled: Sequence[float | None], chance: Sequence[float] = ()) -> Verdict:
    """Judge an evaluator by the scores of gold answers and of other rows' answers.

    Args:
        gold: score of each row with its own gold answer; None: invalid.
        shuffled: score of each row with the answer of another one; None: invalid.
        chance: of the second, 1 where the other row's answer happens to be the same, else 0 (`shuffle` tells); default: none is.
    """
    same = list(chance) or [0.0] * len(shuffled)
    right = [score for score in gold if score is not None]
    wrong = [score for score, equal in zip(shuffled, same, strict=True) if score is not None and not equal]
    mean_right, mean_wrong = _mean(right), _mean(wrong)
    low = [row for row, score in enumerate(gold, start=1) if score is None or score < 1]
    if not gold or not shuffled:
        problem = "There are no rows to validate it with."
    elif low:
        problem = f"{len(low)} of {len(gold)} gold answers do not score 1, the first that of row {low[0]}."
    elif not wrong:
        problem = "There is no row with a wrong answer that it scores, so it cannot be seen to tell right from wrong."
    elif mean_wrong > SHUFFLED_MOST:
        problem = f"Answers of other rows score more than {SHUFFLED_MOST}."
    else:
        problem = ""
    equal = sum(map(bool, same))
    note = f" ({equal} of {len(shuffled)} are the same answer by chance and do not count)" if equal else ""
    told = f"Gold answers score {mean_right:.3f}, answers of other rows {mean_wrong:.3f}{note}."
    return Verdict(not problem, f"{problem} {told}".strip(), mean_right, mean_wrong)


def shuffle(rows: Sequence[Row], answers: Answers, seed: int = 42) -> tuple[list[Row], list[float]]:
    """Each row with the answer of another one, and whether both answers are the same: 1, else 0.

    Rows end in their gold answer, and have it in `ground_truth`, too. As few answers as possible stay the same: rows of one answer
    are put side by side, and each gets the answer of the row that is as many places on as the largest such group has members.
    """
    read = reader(answers)
    golds = [read.gold(row["ground_truth"]) for row in rows]
    groups: dict[str, list[int]] = {}
    for index in random.Random(seed).sample(range(len(rows)), len(rows)):
        groups.setdefault(repr(golds[index]), []).append(index)
    order = [index for group in groups.values() for index in group]
    step = max(map(len, groups.values()), default=0)
    shuffled = [dict(row) for row in rows]
    same = [0.0] * len(rows)
    for place, index in enumerate(order):
        other = order[(place + step) % len(order)]
        turn = answer_of(rows[other])
        shuffled[index]["messages"] = [*rows[index]["messages"][:-1], turn]
        answer = read.answer(turn) if turn is not None else None
        same[index] = float(answer is not None and golds[index] is not None and read.same(answer, golds[index]))
    return shuffled, same


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else 0.0


def _source(answers: Answers) -> str:
    kind = answers.kind
    calls = kind is AnswerKind.TOOL_CALLS
    imports = {"from pathlib import Path", "from typing import Any"} | (set() if calls else {"import json"})
    bodies: list[str] = []
    for module in _VALUES[kind] if calls else (_MARKERS[answers.marker], *_VALUES[kind]):
        found, body = _parts(module, _ONLY_IN_JSON if calls and module is json_value else frozenset())
        imports |= found
        bodies.append(body)
    constants = {AnswerKind.LABEL: ("LABELS", answers.labels), AnswerKind.JSON: ("SCHEMA", answers.json_schema)}
    if kind in constants:
        name, value = constants[kind]
        bodies.insert(0, f"{name} = {literal(value)}")
    if calls:
        bodies.append(frames.READ_CALLS.strip())
    else:
        gold, answer = _calls(kind)
        unwrap = "" if kind is AnswerKind.JSON else frames.UNWRAP
        bodies.append(frames.READ_TEXT.format(unwrap=unwrap, gold=gold, answer=answer).strip())
    what = _what(answers).replace("\\", "\\\\").replace('"', "'")
    metrics = frames.JSON_METRICS if kind is AnswerKind.JSON else ""
    same = "same_calls" if calls else "same"
    bodies.append(frames.TEST.format(function=FUNCTION, What=what, metrics=metrics, same=same).strip())
    return frames.HEAD.format(What=what) + "\n" + _imports(imports) + _joined(bodies)


def _imports(lines: set[str]) -> str:
    ordered = sorted(lines, key=lambda line: (not line.startswith("import "), line))
    return (
        "\n".join(ordered) + "\n\n"
        "from eval_protocol.models import EvaluateResult, EvaluationRow, Message, MetricResult\n"
        "from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test\n"
    )


def _joined(bodies: list[str]) -> str:
    """Blank lines as ruff wants them: one between constants, two around functions."""
    text, after_function = "", False
    for body in bodies:
        first_is_function = body.startswith(("def ", "@"))
        text += ("\n\n" if after_function or first_is_function else "\n") + body + "\n"
        after_function = "\ndef " in f"\n{body}"
    return text


def _parts(module: ModuleType, without: frozenset[str]) -> tuple[set[str], str]:
    """A template's imports, those of the platform left out, and its constants and functions but those of `without`."""
    source = python_source.getsource(module)
    lines = source.splitlines()
    imports: set[str] = set()
    kept: list[str] = []
    for node in ast.parse(source).body:
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set() if "tunesmith" in text else {text}
        elif isinstance(node, ast.FunctionDef | ast.Assign):
            names = [node.name] if isinstance(node, ast.FunctionDef) else map(ast.unparse, node.targets)
            kept += [text] if without.isdisjoint(names) else []
    used = "\n".join(kept)
    imports = {line for line in imports if any(name in used for name in _imported(line))}
    return imports, _joined(kept).strip("\n")


def _imported(line: str) -> list[str]:
    node = ast.parse(line).body[0]
    assert isinstance(node, ast.Import | ast.ImportFrom)
    return [f"{alias.name}." if isinstance(node, ast.Import) else alias.name for alias in node.names]


def _calls(kind: AnswerKind) -> tuple[str, str]:
    """How the gold answer's text, and the model's, are read."""
    if kind is AnswerKind.LABEL:
        return "value_of(text, LABELS)", "value_of(text, LABELS)"
    return "value_of(text)", "value_of(text) or last_number(text)" if kind is AnswerKind.NUMBER else "value_of(text)"


def _what(answers: Answers) -> str:
    where = "" if answers.kind is AnswerKind.TOOL_CALLS else MARKED_IN_WORDS[answers.marker]
    what = f"{frames.NOUNS[answers.kind]}{where}"
    return f"{what[0].upper()}{what[1:]}"


def _spec(answers: Answers) -> str:
    kind = answers.kind
    found = [] if kind is AnswerKind.TOOL_CALLS else [frames.FOUND[answers.marker]]
    lines = [
        "# What counts",
        "",
        f"{inert(_what(answers))}: 1 when it is that of the row's `ground_truth`, else 0. There is no partial credit in the score.",
        "",
        *(f"- {line}" for line in [*found, *frames.COUNTS[kind]]),
        "- A row whose `ground_truth` cannot be read has no valid score; it is not counted as 0.",
        "",
        f"Read from the data: {inert(answers.reason)} {answers.rows} rows were read.",
    ]
    if answers.labels:
        lines += ["", "## Labels", "", *(f"- {_code(name)}" for name in answers.labels)]
    if answers.json_schema:
        schema = json.dumps(answers.json_schema, indent=2, ensure_ascii=False)
        lines += ["", "## Schema", "", block("json", schema)]
    lines += ["", "## Examples that score 1", "", *_shown(answers.examples)]
    if answers.misfits:
        lines += ["", "## Rows of the data that do not fit", "", *_shown(answers.misfits)]
    lines += [
        "",
        "## Before it is used",
        "",
        f"Every gold answer must score 1, and answers of other rows at most {SHUFFLED_MOST} on average, where they differ from the "
        "row's own.",
    ]
    return "\n".join(lines) + "\n"


def _shown(examples: Sequence[Any]) -> list[str]:
    return [line for each in examples for line in (f"Line {each.line}:", "", block("text", each.text), "")][:-1]


def _code(text: str) -> str:
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"
