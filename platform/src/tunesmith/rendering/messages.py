"""From the messages that clients send to the messages that chat templates are written for.

Null keys are dropped, text parts are joined, tool arguments become objects, `developer` is `system` and `reasoning` is
`reasoning_content`. Images are refused: no model of the catalogue reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunesmith.errors import InvalidArgument


def normalize_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages as templates expect them; every one has a `role` and a string `content`.

    Raises InvalidArgument naming the message when one is not understood.
    """
    if not messages:
        raise InvalidArgument("messages is empty; send at least one message.")
    return [_normalize(message, index) for index, message in enumerate(messages)]


def _normalize(message: Any, index: int) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidArgument(f"messages[{index}] is not an object.")
    kept = {key: value for key, value in message.items() if value is not None}
    role = kept.get("role")
    if not isinstance(role, str) or not role:
        raise InvalidArgument(f"messages[{index}] has no role; use system, user, assistant or tool.")
    kept["role"] = "system" if role == "developer" else role
    if isinstance(kept.get("reasoning"), str):
        kept.setdefault("reasoning_content", kept["reasoning"])
        del kept["reasoning"]
    kept["content"] = _text(kept.get("content", ""), index)
    if "tool_calls" in kept:
        if not isinstance(kept["tool_calls"], list):
            raise InvalidArgument(f"messages[{index}].tool_calls is not a list.")
        kept["tool_calls"] = [_tool_call(call, index) for call in kept["tool_calls"]]
        if not kept["tool_calls"]:
            del kept["tool_calls"]
    return kept


def _text(content: Any, index: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidArgument(f"messages[{index}].content is neither text nor a list of parts.")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise InvalidArgument(
                f"messages[{index}] has a part of type {kind!r}; this model reads text only. Send parts of type 'text'."
            )
    return "".join(texts)


def _tool_call(call: Any, index: int) -> dict[str, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        raise InvalidArgument(f"messages[{index}].tool_calls holds something that is not a function call.")
    function = {key: value for key, value in call["function"].items() if value is not None}
    if not isinstance(function.get("name"), str):
        raise InvalidArgument(f"messages[{index}].tool_calls holds a call without a function name.")
    first = {"name": function.pop("name"), "arguments": parse_arguments(function.pop("arguments", {}))}
    rest = {key: value for key, value in call.items() if value is not None}
    return {**rest, "function": {**first, **function}}  # in one order: templates may write it out as it is


def parse_arguments(arguments: Any) -> Any:
    """Tool arguments as an object where they are JSON of one; else as they came."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return arguments
    return arguments


def same_assistant_message(recorded: dict[str, Any], incoming: dict[str, Any]) -> bool:
    """Whether a client sent back what it was given.

    Text is compared exactly, tool calls by name and arguments as JSON. Call ids do not count, and reasoning may be left out.
    """
    if incoming.get("role") != "assistant" or (recorded.get("content") or "") != (incoming.get("content") or ""):
        return False
    reasoning = incoming.get("reasoning_content") or ""
    if reasoning and reasoning != (recorded.get("reasoning_content") or ""):
        return False
    ours, theirs = _calls(recorded), _calls(incoming)
    return len(ours) == len(theirs) and all(
        name == other and _same_json(arguments, others)
        for (name, arguments), (other, others) in zip(ours, theirs, strict=True)
    )


def same_history(recorded: Sequence[dict[str, Any]], incoming: Sequence[dict[str, Any]]) -> bool:
    """Whether two conversations (normalized) say the same, message by message. Ids of tool calls do not count."""
    return len(recorded) == len(incoming) and all(map(_same_message, recorded, incoming))


def _same_message(recorded: dict[str, Any], incoming: dict[str, Any]) -> bool:
    if recorded == incoming and not recorded.get("tool_calls"):
        return True
    if recorded["role"] == "assistant":  # either side may have left the reasoning out
        return same_assistant_message(recorded, incoming) or (
            not recorded.get("reasoning_content") and same_assistant_message(incoming, recorded)
        )
    return _without_id(recorded) == _without_id(incoming)


def _without_id(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "tool_call_id"}


def _calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in message.get("tool_calls") or []]
    return [(function["name"], parse_arguments(function.get("arguments", {}))) for function in functions]


def _same_json(one: Any, other: Any) -> bool:
    """Equal as JSON: the order of keys does not count, 1 is 1.0, and true is not 1. What nests too deep to compare is not."""
    try:
        return _same_value(one, other)
    except RecursionError:
        return False


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_value(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_value, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
