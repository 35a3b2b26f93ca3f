"""Optional: what a model reads of the words that the rules did not understand. Pure: the request it is sent, and what counts of its answer.

Any OpenAI-compatible model answers by structured output with fields of the same typed plan. A field counts only where the model quotes
the person's own words for it, and those words are ones that the rules left over; what the rules read is never overruled, and no model
waives an approval.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tunesmith.agent.plan import Plan
from tunesmith.agent.reading.names import Names
from tunesmith.agent.reading.restate import restate_changes
from tunesmith.agent.reading.result import Intent, Reading

_FIELDS = tuple(name for name in Plan.model_fields if name != "approvals")
_TASK = (
    "You fill in fields of a fine-tuning plan from what a person wrote. Use only what the listed words say; leave every other field out. "
    "For each field that you fill in, put the person's exact words for it into `quotes` under the field's name. Never invent a value. "
    "When the words say nothing that fits a field, return an empty plan."
)


def request(text: str, reading: Reading, names: Names, plan: Plan, model: str) -> dict[str, Any]:
    """The body for `POST {url}/chat/completions`.

    Args:
        text: all that the person wrote.
        reading: what the rules read; `left` is what they did not understand.
        names: what may be named.
        plan: the plan so far.
        model: name of the model.
    """
    known = {
        "wrote": text,
        "not understood so far": reading.left,
        "plan so far": plan.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "base models": [each.id for each in names.base_models],
        "datasets": [name.rsplit("/", 1)[-1] for name in names.datasets],
        "evaluators": [name.rsplit("/", 1)[-1] for name in names.evaluators],
    }
    return {
        "model": model,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": _TASK},
            {"role": "user", "content": json.dumps(known, ensure_ascii=False)},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema()}},
    }


def schema() -> dict[str, Any]:
    """JSON schema of the answer: fields of a plan, and the person's words for each."""
    plan = Plan.model_json_schema(by_alias=True)
    definitions = plan.pop("$defs", {})
    plan["properties"] = {
        alias: field for alias, field in plan["properties"].items() if alias in {_alias(name) for name in _FIELDS}
    }
    quotes = {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "type": "object",
        "properties": {"plan": plan, "quotes": quotes},
        "required": ["plan", "quotes"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def parse(answer: Any, reading: Reading, text: str) -> Reading | None:
    """What counts of a model's answer (the JSON of a chat completion), as a reading of its own; None when nothing does.

    `text` is all that the person wrote: a quote that is not in it is none. `unclear` of the result is what still has to be asked.
    """
    try:
        content = json.loads(answer["choices"][0]["message"]["content"])
        plan, quotes = Plan.model_validate(content["plan"]), dict(content["quotes"])
    except (KeyError, IndexError, TypeError, ValueError, ValidationError):
        return None
    changes: dict[str, Any] = {}
    used: list[str] = []
    decided = reading.changes.keys() | {question.field.split(".")[0] for question in reading.contradictions}
    for name in _FIELDS:
        words = _plain(str(quotes.get(_alias(name)) or quotes.get(name) or ""))
        stated = name in plan.model_fields_set and getattr(plan, name) not in (None, [])
        if stated and name not in decided and _said(words, reading.left, text):
            changes[name] = getattr(plan, name)
            used.append(words)
    if not changes:
        return None
    open_still = tuple(
        question
        for words, question in zip(reading.left, reading.unclear, strict=True)
        if not any(_plain(words) in quote or quote in _plain(words) for quote in used)
    )
    understood = tuple(f"{sentence} (Read by the model from your words.)" for sentence in restate_changes(changes))
    return Reading(Intent.ANSWER, changes=changes, understood=understood, unclear=open_still)


def _alias(name: str) -> str:
    return Plan.model_fields[name].alias or name


def _plain(words: str) -> str:
    return " ".join(words.lower().split())


def _said(words: str, left: Sequence[str], text: str) -> bool:
    """Whether a quote was written, and lies in, or around, words that the rules left over."""
    return _within(words, _plain(text)) and any(
        _within(words, _plain(each)) or _within(_plain(each), words) for each in left
    )


def _within(words: str, text: str) -> bool:
    """Whether whole words stand in a text, as they are."""
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None
