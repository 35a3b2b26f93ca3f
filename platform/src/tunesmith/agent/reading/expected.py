"""Short answers to a pending question: a bare number, name or choice is read as what was asked for, when only one question fits it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tunesmith.agent.document import Question
from tunesmith.agent.plan import EvaluationPath, Method
from tunesmith.agent.reading.draft import Draft
from tunesmith.agent.reading.items import Match, Sentence

_WHOLE_NUMBER = ("subsample", "parallel", "batch_size_samples", "max_context_length", "seed")
_NAME = (
    "dataset",
    "evaluation_dataset",
    "evaluation.evaluator",
    "output_model",
    "deployment",
    "strong_model",
    "weak_model",
)
_LISTS = {"grid.lora_ranks": "lora_ranks", "grid.learning_rates": "learning_rates", "grid.betas": "betas"}
_YES_NO = ("deploy", "final_run", "approvals.plan", "approvals.promotion")
_BARE_NUMBERS = re.compile(r"(?<!\S)(?P<n>[#~](?:(?: , and| , or| ,| and| or| &) [#~])*)(?!\S)")
_BARE_NAME = re.compile(r"(?<!\S)(?P<n>@id|@dataset|@evaluator|@model|@other)(?!\S)")
_NTH = re.compile(r"(?<!\S)(?:the )?(?P<n>@nth)(?: (?:one|choice|option))?(?!\S)")
_WORD = re.compile(r"(?<!\S)(?P<n>\w+)(?!\S)")


def read_expected(sentence: Sentence, questions: Sequence[Question], draft: Draft) -> None:
    """Take what is left of a sentence as the answer to what was asked."""
    for match in sentence.matches(_BARE_NUMBERS):
        _one(draft, match, [q for q in questions if q.field in (*_WHOLE_NUMBER, "epochs", *_LISTS)])
    for match in sentence.matches(_BARE_NAME):
        _one(draft, match, [q for q in questions if q.field in (*_NAME, "base_models")])
    for match in sentence.matches(_NTH):
        with_choices = [question for question in questions if question.choices]
        number = int(float(match.values()[0].value or 0))
        if len(with_choices) == 1 and 1 <= number <= len(with_choices[0].choices):
            question = with_choices[0]
            _take(draft, match, question.field, question.choices[number - 1])
    for match in sentence.matches(_WORD):
        fitting = [q for q in questions if match.words.lower() in map(str.lower, q.choices)]
        if len(fitting) == 1 and not match.taken:
            choice = next(choice for choice in fitting[0].choices if choice.lower() == match.words.lower())
            _take(draft, match, fitting[0].field, choice)


def _one(draft: Draft, match: Match, fitting: Sequence[Question]) -> None:
    if len(fitting) == 1:
        values = [item.value for item in match.values()]
        _take(draft, match, fitting[0].field, values if fitting[0].field in _LISTS else values[0], len(values))


def _take(draft: Draft, match: Match, name: str, value: Any, count: int = 1) -> None:
    if name in _LISTS:
        values = value if isinstance(value, list) else [value]
        numbers = [float(each) for each in values]
        draft.wish(_LISTS[name], [int(each) for each in numbers] if name == "grid.lora_ranks" else numbers, match)
    elif name in _WHOLE_NUMBER and count == 1:
        draft.wish(name, int(float(value)), match)
    elif name == "epochs" and count == 1:
        draft.wish(name, float(value), match)
    elif name in _YES_NO and str(value) in ("yes", "no"):
        draft.wish(name, value == "yes", match)
    elif name == "base_models":
        draft.wish(name, [value], match)
    elif name == "method":
        draft.wish(name, Method(value), match)
    elif name == "evaluation.path":
        draft.wish(name, EvaluationPath(value), match)
    elif name in _NAME:
        draft.wish(name, value, match)
        if name == "evaluation.evaluator":
            draft.wish("evaluation.path", EvaluationPath.EVALUATOR, match)
