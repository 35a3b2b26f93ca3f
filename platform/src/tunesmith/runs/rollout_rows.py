"""What tables and charts show of a rollout's row (an EvaluationRow as the evaluator host sent it back)."""

from __future__ import annotations

import math
from typing import Any

SNIPPET = 400
"""Characters of prompt and answer that tables keep."""


def metrics_of(row: dict[str, Any]) -> dict[str, float]:
    """Score of each of the evaluator's metrics, by name; those without a finite number are left out."""
    result = row.get("evaluation_result")
    metrics = result.get("metrics") if isinstance(result, dict) else None
    found: dict[str, float] = {}
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        score = metric.get("score") if isinstance(metric, dict) else None
        if isinstance(score, int | float) and math.isfinite(score):
            found[str(name)] = float(score)
    return found


def answer_of(row: dict[str, Any]) -> str:
    """The last assistant message as text: its content, else its tool calls as `name(arguments)`; empty without one."""
    for message in reversed(_messages(row)):
        if message.get("role") == "assistant":
            return text_of(message)
    return ""


def prompt_of(row: dict[str, Any]) -> str:
    """The last user message before the last answer, else the last message before it; empty without one."""
    messages = _messages(row)
    answers = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
    before = messages[: answers[-1]] if answers else messages
    users = [message for message in before if message.get("role") == "user"]
    return text_of((users or before)[-1]) if before else ""


def text_of(message: dict[str, Any]) -> str:
    """A message's text: its content (parts joined, pictures as `[image]`), else its tool calls as `name(arguments)`."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        content = "\n".join(str(part.get("text") or "[image]") for part in parts)
    if content:
        return str(content)
    calls = [call.get("function") for call in message.get("tool_calls") or [] if isinstance(call, dict)]
    return "\n".join(f"{call.get('name')}({call.get('arguments')})" for call in calls if isinstance(call, dict))


def snippet(text: str) -> str:
    """The beginning of a text, `SNIPPET` characters at most, `…` behind one that was cut."""
    return text if len(text) <= SNIPPET else f"{text[: SNIPPET - 1]}…"


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    messages = row.get("messages")
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
