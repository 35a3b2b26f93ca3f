"""The body of an Anthropic Messages call, and its messages in chat form."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.gateway.errors import BadRequest


class MessagesRequest(BaseModel):
    """`POST …/messages`. Fields that are null count as not sent; those not listed are checked by name."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Any]
    max_tokens: int = Field(ge=1)
    system: str | list[Any] = ""
    stop_sequences: list[str] = []
    stream: bool = False
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=2**31 - 1)
    tools: list[dict[str, Any]] = []
    tool_choice: dict[str, Any] = {"type": "auto"}
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] = {}


def chat_messages(request: MessagesRequest) -> list[dict[str, Any]]:
    """Messages in chat form, the system prompt first. Raises BadRequest naming the message that is not understood."""
    system = _text(request.system, "system")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for index, message in enumerate(request.messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"{where} is no message with a role.", "messages")
        if message["role"] == "assistant":
            messages.append(_assistant(message.get("content"), where))
        else:
            messages += _said(message["role"], message.get("content"), where)
    if messages and messages[-1]["role"] == "assistant":
        raise BadRequest(
            "The last message is the assistant's: continuing a text that the caller began is not supported. End with a user message.",
            "messages",
            "unsupported_parameter",
        )
    return messages


def chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A client tool in chat form. Raises BadRequest for the provider's own tools, which are not here."""
    if tool.get("type") not in (None, "custom"):
        raise BadRequest(
            f"A tool of type {str(tool['type'])[:80]!r} is not available here; send tools with a name and an input_schema.",
            "tools",
            "unsupported_parameter",
        )
    function = {
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema"),
    }
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _blocks(content: Any, where: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise BadRequest(f"{where} has content that is neither text nor a list of blocks.", "messages")
    return content


def _text(content: Any, where: str) -> str:
    """Text blocks put together. Raises BadRequest for any other block."""
    texts = []
    for block in _blocks(content, where):
        if block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise _not_read(block, where)
        texts.append(block["text"])
    return "".join(texts)


def _not_read(block: dict[str, Any], where: str) -> BadRequest:
    return BadRequest(
        f"{where} has a block of type {str(block.get('type'))[:80]!r} that is not read here; this model reads text only.",
        "system" if where == "system" else "messages",
        "unsupported_parameter",
    )


def _assistant(content: Any, where: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls, texts, thoughts = [], [], []
    for block in _blocks(content, where):
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            thoughts.append(block["thinking"])
        elif kind == "tool_use":
            calls.append(_call(block, where))
        elif kind != "redacted_thinking":
            raise _not_read(block, where)
    if texts:
        message["content"] = "".join(texts)
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: dict[str, Any], where: str) -> dict[str, Any]:
    id, name = block.get("id"), block.get("name")
    if not isinstance(id, str) or not isinstance(name, str):
        raise BadRequest(f"{where} has a tool_use block without id or name.", "messages")
    arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _said(role: str, content: Any, where: str) -> list[dict[str, Any]]:
    """What a user said, and the tool results in it as messages of their own, in their order."""
    messages: list[dict[str, Any]] = []
    texts: list[str] = []

    def flush() -> None:
        if texts:
            messages.append({"role": role, "content": "".join(texts)})
            texts.clear()

    for block in _blocks(content, where):
        if block.get("type") == "tool_result":
            flush()
            messages.append(_result(block, where))
        elif block.get("type") == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        else:
            raise _not_read(block, where)
    flush()
    return messages or [{"role": role, "content": ""}]


def _result(block: dict[str, Any], where: str) -> dict[str, Any]:
    """A tool's result. Chat messages have no mark for errors, so an error says so in its text."""
    if not isinstance(block.get("tool_use_id"), str):
        raise BadRequest(f"{where} has a tool_result block without a tool_use_id.", "messages")
    text = _text(block.get("content"), where)
    if block.get("is_error") is True and not text.lower().startswith("error"):
        text = f"Error: {text}" if text else "Error"
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
