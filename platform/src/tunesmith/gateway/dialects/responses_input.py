"""The input of an OpenAI Responses call as chat messages.

Items that a model produced in one turn (reasoning, message, function calls, in this order) become one assistant message, so that it can be
compared with the recorded one.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tunesmith.gateway.errors import BadRequest

_ITEM_ID = re.compile(r"(?P<kind>rs|msg|fc)_(?P<suffix>[0-9a-f]+)(?:_(?P<number>[0-9]{1,9}))?")
_TEXT_PARTS = {"input_text", "output_text", "text", "summary_text", "reasoning_text"}


def chat_messages(items: str | list[Any]) -> list[dict[str, Any]]:
    """Messages of an input. Raises BadRequest naming the item that is not understood."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadRequest(f"input[{index}] is not an object.", "input")
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            _add_message(messages, item, index)
        elif kind == "function_call":
            _add_call(messages, item, index)
        elif kind == "function_call_output":
            messages.append(_tool_result(item, index))
        elif kind == "reasoning":
            _add_reasoning(messages, item, index)
        else:
            raise BadRequest(
                f"input[{index}] has type {str(kind)[:80]!r}; message, function_call, function_call_output and reasoning are understood.",
                "input",
                "unsupported_parameter",
            )
    return messages


def response_of(item_id: Any) -> str | None:
    """The id of the response that an output item of ours belongs to; None for any other id."""
    match = _ITEM_ID.fullmatch(item_id) if isinstance(item_id, str) else None
    return f"resp_{match['suffix']}" if match else None


def recorded_item(item_id: str, message: dict[str, Any]) -> dict[str, Any] | None:
    """An output item, read back from the assistant message that it was a part of; None where that has no such part."""
    match = _ITEM_ID.fullmatch(item_id)
    assert match is not None
    calls, number = message.get("tool_calls") or [], int(match["number"] or 0)
    if match["kind"] == "rs" and message.get("reasoning_content"):
        return {
            "type": "reasoning",
            "content": [{"type": "reasoning_text", "text": message["reasoning_content"]}],
        }
    if match["kind"] == "msg":
        return {"type": "message", "role": "assistant", "content": message.get("content")}
    if match["kind"] == "fc" and number < len(calls):
        return {"type": "function_call", "call_id": calls[number]["id"], **calls[number]["function"]}
    return None


def _add_message(messages: list[dict[str, Any]], item: dict[str, Any], index: int) -> None:
    role = item.get("role")
    if not isinstance(role, str):
        raise BadRequest(f"input[{index}] has no role; use system, developer, user or assistant.", "input")
    content = _content(item.get("content"), index)
    last = messages[-1] if messages else {}
    if role == "assistant" and last.get("role") == "assistant" and last["content"] is None and "tool_calls" not in last:
        last["content"] = content  # its reasoning came before it
        return
    messages.append({"role": role, "content": content})


def _add_call(messages: list[dict[str, Any]], item: dict[str, Any], index: int) -> None:
    name, call_id = item.get("name"), item.get("call_id")
    if not isinstance(name, str) or not isinstance(call_id, str):
        raise BadRequest(f"input[{index}] is a function_call without name or call_id.", "input")
    arguments = item.get("arguments")
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": "{}" if arguments is None else arguments},
    }
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _add_reasoning(messages: list[dict[str, Any]], item: dict[str, Any], index: int) -> None:
    """Reasoning opens an assistant turn. A summary is no reasoning of the model's and is left out."""
    text = _content(item.get("content") or [], index)
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if text:
        message["reasoning_content"] = text
    messages.append(message)


def _tool_result(item: dict[str, Any], index: int) -> dict[str, Any]:
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        raise BadRequest(f"input[{index}] is a function_call_output without a call_id.", "input")
    output = item.get("output")
    if output is not None and not isinstance(output, (str, list)):
        output = json.dumps(output, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": call_id, "content": _content(output, index)}


def _content(content: Any, index: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRequest(f"input[{index}] has content that is neither text nor a list of parts.", "input")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
        if kind not in (*_TEXT_PARTS, "refusal") or not isinstance(text, str):
            raise BadRequest(
                f"input[{index}] has a part of type {str(kind)[:80]!r}; this model reads text only. Send parts of type 'input_text'.",
                "input",
                "unsupported_parameter",
            )
        texts.append(text)
    return "".join(texts)
