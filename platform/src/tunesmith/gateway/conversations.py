"""What went into a recorded call, in chat form. Calls that were answered here are recorded in it; passed-through ones as they came."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from tunesmith.db.completions import Completion
from tunesmith.gateway.dialects import Chat, Messages
from tunesmith.gateway.dialects.messages_request import MessagesRequest
from tunesmith.gateway.dialects.messages_request import chat_messages as messages_of_messages
from tunesmith.gateway.dialects.messages_request import chat_tool as tool_of_messages
from tunesmith.gateway.dialects.responses_input import chat_messages as messages_of_responses
from tunesmith.gateway.errors import BadRequest

Conversation = tuple[list[dict[str, Any]], list[dict[str, Any]] | None]
"""(messages, tools)."""


def conversation_of(completion: Completion) -> Conversation:
    """Messages and tools of a call. What an upstream understood and this gateway does not is one message, as JSON."""
    request, dialect = completion.request, completion.params.get("dialect", Chat.name)
    if completion.prompt_ids or dialect == Chat.name:
        return request.get("messages") or [], request.get("tools")
    try:
        return _messages(request) if dialect == Messages.name else _responses(request)
    except (BadRequest, ValidationError):
        asked = request.get("messages" if dialect == Messages.name else "input")
        return [{"role": "user", "content": json.dumps(asked, ensure_ascii=False)}], request.get("tools")


def _messages(request: dict[str, Any]) -> Conversation:
    parsed = MessagesRequest.model_validate({"max_tokens": 1, **request})
    return messages_of_messages(parsed), [tool_of_messages(tool) for tool in parsed.tools] or None


def _responses(request: dict[str, Any]) -> Conversation:
    instructions, items, tools = request.get("instructions"), request.get("input") or [], request.get("tools") or []
    if not isinstance(items, str | list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("The body is none of the Responses API.")
    leading = [{"role": "system", "content": instructions}] if isinstance(instructions, str) and instructions else []
    return [*leading, *messages_of_responses(items)], [_function(tool) for tool in tools] or None


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool of the Responses API in chat form; the provider's own tools stay as they are."""
    if tool.get("type") != "function":
        return tool
    return {
        "type": "function",
        "function": {key: value for key, value in tool.items() if key not in ("type", "strict")},
    }
