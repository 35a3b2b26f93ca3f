"""What to show of a rollout's row: its last question and its last answer, as text."""

from __future__ import annotations

import json
from typing import Any


def prompt_of(row: dict[str, Any]) -> str:
    """Text of the last user message."""
    return _last(row, "user")


def answer_of(row: dict[str, Any]) -> str:
    """Text of the last assistant message, its tool calls if it has no text."""
    return _last(row, "assistant")


def _last(row: dict[str, Any], role: str) -> str:
    messages = row.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == role:
            return _text(message.get("content")) or json.dumps(message.get("tool_calls") or "")
    return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in parts if isinstance(part, dict))
