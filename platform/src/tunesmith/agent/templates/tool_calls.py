"""Tool calls: which functions are called, with which arguments, in any order."""

import json
from typing import Any

from tunesmith.agent.templates.json_value import same


def calls_of(value: Any) -> list[tuple[str, Any]] | None:
    """Names and arguments of a list of calls, in either spelling; None when it is no such list, or an empty one."""
    calls = value_of_text(value) if isinstance(value, str) else value
    if not isinstance(calls, list) or not calls:
        return None
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None
        arguments = function.get("arguments")
        found.append((function["name"], value_of_text(arguments) if isinstance(arguments, str) else arguments or {}))
    return found


def value_of_text(text: str) -> Any:
    """JSON of a text; the text itself where it is none. No arguments at all are an empty object."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


def same_calls(answer: list[tuple[str, Any]], gold: list[tuple[str, Any]]) -> bool:
    """Whether the same functions are called with the same arguments."""
    left = list(gold)
    for name, arguments in answer:
        match = next((call for call in left if call[0] == name and same(arguments, call[1])), None)
        if match is None:
            return False
        left.remove(match)
    return not left
