"""JSON objects and lists, compared as values: the order of keys does not count, the order of lists does."""

import json
import re
from typing import Any

FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)


def value_of(text: str) -> Any:
    """The JSON object or list that a text is, with or without a code fence around it; None when it is neither."""
    text = text.strip()
    fenced = FENCE.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def refuse(name: str) -> Any:
    """NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


def same(answer: Any, gold: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1. What nests too deep to compare is not equal."""
    try:
        return same_value(answer, gold)
    except RecursionError:
        return False


def same_value(answer: Any, gold: Any) -> bool:
    """`same`, without a guard against deep nesting."""
    if isinstance(answer, dict) and isinstance(gold, dict):
        return answer.keys() == gold.keys() and all(same_value(item, gold[key]) for key, item in answer.items())
    if isinstance(answer, list) and isinstance(gold, list):
        return len(answer) == len(gold) and all(map(same_value, answer, gold))
    return isinstance(answer, bool) == isinstance(gold, bool) and answer == gold


def right_share(answer: Any, gold: Any) -> float:
    """How much of the gold answer is right: the share of its top-level fields (or items), extra ones counted as wrong."""
    if isinstance(answer, list) and isinstance(gold, list):
        answer, gold = dict(enumerate(answer)), dict(enumerate(gold))
    if not isinstance(answer, dict) or not isinstance(gold, dict):
        return 0.0
    fields = answer.keys() | gold.keys()
    right = sum(key in answer and key in gold and same(answer[key], gold[key]) for key in fields)
    return right / len(fields) if fields else 1.0
