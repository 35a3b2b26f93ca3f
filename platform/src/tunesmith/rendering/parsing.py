"""From the text that a model wrote to an assistant message: tool calls and reasoning, in the syntax of its family.

Nothing is lost and nothing is guessed: what is no valid call stays in the content word for word. What may be streamed of an
unfinished text (`partial`) is always a prefix of what `parse` gives for the whole.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{_OPEN}\s*(.*?)\s*{_CLOSE}", re.DOTALL)
_PYTHON_TAG = "<|python_tag|>"
_THINK, _THOUGHT = "<think>", "</think>"


@dataclass(frozen=True)
class PartialMessage:
    """What of an unfinished completion may be streamed already. Both strings only grow, and the parsed message begins with them."""

    content: str = ""
    reasoning_content: str = ""


class CallSyntax(StrEnum):
    """How a model writes tool calls."""

    HERMES = "hermes"
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`, once or several times, at the end of the text."""
    LLAMA = "llama"
    """The whole text is `{"name": …, "parameters": …}`, perhaps behind `<|python_tag|>`."""


@dataclass(frozen=True)
class Syntax:
    """How the text of one family is read.

    With `reasoning`, a `<think>` block at the beginning (or one that the prompt opened) is `reasoning_content`; without it
    such a block stays in the content, where evaluators read it.
    """

    calls: CallSyntax = CallSyntax.HERMES
    reasoning: bool = False

    @classmethod
    def of_template(cls, template: str) -> Syntax:
        """The syntax that a chat template shows calls in; Hermes where it shows none."""
        llama = '"parameters": ' in template and "ipython" in template and _OPEN not in template
        return cls(CallSyntax.LLAMA if llama else CallSyntax.HERMES)

    def parse(self, text: str, tools: bool, in_reasoning: bool = False) -> dict[str, Any]:
        """The assistant message of a whole text. `in_reasoning`: the prompt ended inside an open `<think>`."""
        reasoning, rest = self._split(text, tools, in_reasoning)
        message = {"role": "assistant", "content": rest}
        if tools:
            message = (_parse_llama if self.calls is CallSyntax.LLAMA else _parse_hermes)(rest)
        if reasoning:
            message["reasoning_content"] = reasoning
        return message

    def partial(self, text: str, tools: bool, in_reasoning: bool = False) -> PartialMessage:
        """What of a growing text can no longer change."""
        if self.reasoning:
            body = text.lstrip()
            if _THINK.startswith(body):
                return PartialMessage()  # it may still become a think block
            if (in_reasoning or body.startswith(_THINK)) and _THOUGHT not in body:
                body = body.removeprefix(_THINK).lstrip()
                return PartialMessage(reasoning_content=_held_back(body, [_THOUGHT, _OPEN] if tools else [_THOUGHT]))
        reasoning, rest = self._split(text, tools, in_reasoning)
        content = rest
        if tools:
            content = _llama_prefix(rest) if self.calls is CallSyntax.LLAMA else _held_back(rest, [_OPEN])
        return PartialMessage(content, reasoning or "")

    def _split(self, text: str, tools: bool, in_reasoning: bool) -> tuple[str | None, str]:
        """Reasoning, and what follows it. A tool call ends reasoning that is never closed."""
        body = text.lstrip()
        if not self.reasoning or not (in_reasoning or body.startswith(_THINK)):
            return None, text
        body = body.removeprefix(_THINK)
        reasoning, closed, rest = body.partition(_THOUGHT)
        if not closed and tools and _OPEN in body:
            start = body.index(_OPEN)
            reasoning, rest = body[:start], body[start:]
        return reasoning.strip(), rest.lstrip("\n")


def _parse_hermes(text: str) -> dict[str, Any]:
    plain = {"role": "assistant", "content": text}
    if _OPEN not in text:
        return plain
    calls: list[dict[str, Any]] = []
    start = text.index(_OPEN)
    for match in _CALL.finditer(text, start):
        call = _read_call(match.group(1), "arguments")
        if call is None or text[start : match.start()].strip():
            return plain
        calls.append(call)
        start = match.end()
    if not calls or text[start:].strip():
        return plain
    content = text[: text.index(_OPEN)].rstrip()
    return {"role": "assistant", "content": content or None, "tool_calls": calls}


def _parse_llama(text: str) -> dict[str, Any]:
    call = _read_call(text.strip().removeprefix(_PYTHON_TAG), "parameters")
    if call is None:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _llama_prefix(text: str) -> str:
    """All of it, unless it begins like a call, which may be the whole of the text."""
    body = text.lstrip()
    begins_like_a_call = body.startswith(("{", _PYTHON_TAG)) or _PYTHON_TAG.startswith(body)
    return "" if begins_like_a_call else text


def _read_call(source: str, key: str) -> dict[str, Any] | None:
    try:
        call = json.loads(source)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get(key, call.get("arguments", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }


def _held_back(text: str, markers: list[str]) -> str:
    """The text in front of the first marker, or of what may become one, without the white space that would be stripped there."""
    found = [at for marker in markers if (at := text.find(marker)) >= 0]
    end = min(found) if found else len(text) - max(_overlap(text, marker) for marker in markers)
    return text[:end].rstrip()


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `marker`."""
    longest = min(len(marker) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)
