"""Tools in the one form that prompts are rendered from, whichever dialect, client or deprecated spelling they came in."""

from __future__ import annotations

from typing import Any

from tunesmith.gateway.errors import BadRequest


def chosen_name(choice: dict[str, Any]) -> Any:
    """The function that a forced choice names, wherever the dialect puts it."""
    function = choice.get("function")
    return function.get("name") if isinstance(function, dict) else choice.get("name")


def tool_name(tool: dict[str, Any], param: str) -> str:
    """The name of a tool. Raises BadRequest, naming `param`, for a tool that is no function or has no name."""
    function = tool.get("function")
    if tool.get("type", "function") != "function":
        raise BadRequest(
            f"A tool of type {str(tool.get('type'))[:80]!r} is not available here; send tools of type 'function'.",
            param,
            "unsupported_parameter",
        )
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRequest(f"{param}: every one needs a function with a name.", param)
    return function["name"]


def as_tools(functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deprecated `functions` as tools."""
    return [{"type": "function", "function": function} for function in functions]


def canonical_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as templates see it: name, description, parameters, then the rest. `strict` is dropped: nothing is constrained."""
    function = {key: value for key, value in tool["function"].items() if value is not None and key != "strict"}
    first = {key: function.pop(key) for key in ("name", "description", "parameters") if key in function}
    return {"type": "function", "function": {**first, **function}}


def current_message(message: Any) -> Any:
    """A message without deprecated spellings: `function_call`, and the role `function`."""
    if not isinstance(message, dict):
        return message
    legacy = message.get("function_call")
    if legacy is None and message.get("role") != "function":
        return message
    message = {key: value for key, value in message.items() if key != "function_call"}
    if legacy is not None and not message.get("tool_calls"):
        message["tool_calls"] = [{"type": "function", "function": legacy}]
    if message.get("role") == "function":
        message["role"] = "tool"
    return message
