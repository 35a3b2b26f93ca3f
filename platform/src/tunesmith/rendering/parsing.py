"""From the text that a model wrote to an assistant message. Families with another tool or reasoning syntax extend `parse_text`.

`<think>` blocks stay in the content: evaluators read the answer, and what led to it, from there.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{_OPEN}\s*(.*?)\s*{_CLOSE}", re.DOTALL)


@dataclass(frozen=True)
class PartialMessage:
    """What of an unfinished completion may be streamed already. Both strings only grow, and the parsed message begins with them."""

    content: str = ""
    reasoning_content: str = ""


def parse_text(text: str, tools: bool) -> dict[str, Any]:
    """The assistant message of a completion; `<tool_call>{json}</tool_call>` become tool calls when `tools` were offered.

    Calls that are not valid JSON of `{"name", "arguments"}` stay in the content word for word, so that nothing is lost.
    """
    if not tools or _OPEN not in text:
        return {"role": "assistant", "content": text}
    calls: list[dict[str, Any]] = []
    start = text.index(_OPEN)
    for match in _CALL.finditer(text, start):
        call = _read_call(match.group(1))
        if call is None or text[start : match.start()].strip():
            return {"role": "assistant", "content": text}
        calls.append(call)
        start = match.end()
    if not calls or text[start:].strip():
        return {"role": "assistant", "content": text}
    content = text[: text.index(_OPEN)].rstrip()
    return {"role": "assistant", "content": content or None, "tool_calls": calls}


def _read_call(source: str) -> dict[str, Any] | None:
    try:
        call = json.loads(source)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }


def visible_prefix(text: str, tools: bool) -> str:
    """The part of a growing text that can be streamed at once: what may still become a tool call is held back.

    So is white space at its end, because the content in front of tool calls ends without it.
    """
    if not tools:
        return text
    start = text.find(_OPEN)
    if start < 0:
        longest = min(len(_OPEN) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if text.endswith(_OPEN[:n])), 0)
        start = len(text) - held
    return text[:start].rstrip()
