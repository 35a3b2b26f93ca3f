"""What an answer about a shop is worth. Pure functions over OpenAI messages; the standard library is enough.

1.0  the last message says "Answer: N" with the right number, after every item of the question was looked up
0.2  every item was looked up, but the answer is missing or wrong
0.0  anything else, a lucky guess included

The partial credit is for the part of the work that can be right by itself. It is small, so that stopping there never pays,
and the calculator earns nothing by itself: a sum is only as good as what comes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOKED_UP = 0.2
"""Score of a rollout that looked everything up and went wrong after that."""

_ANSWER = re.compile(r"Answer: (-?\d+)\s*\Z")


@dataclass(frozen=True)
class Verdict:
    """The score of one conversation, and what it rests on.

    Attributes:
        score: 0 to 1.
        reason: One sentence.
        is_right: Whether the number is right, however it was found.
        looked_up: Share of the question's items that `lookup` answered for.
        calculated: Whether the calculator gave a result at least once.
        model_calls: Assistant turns.
    """

    score: float
    reason: str
    is_right: bool
    looked_up: float
    calculated: bool
    model_calls: int


def judge(messages: Sequence[Mapping[str, Any]], answer: int, items: Iterable[str]) -> Verdict:
    """Scores a conversation; `items` are those that the question asks about."""
    results = [_read(message.get("content")) for message in messages if message.get("role") == "tool"]
    found = {result["item"] for result in results if isinstance(result.get("item"), str) and "price" in result}
    needed = set(items)
    share = len(found & needed) / len(needed)
    given = stated_answer(messages)
    is_right = given == answer
    if share < 1.0:
        score, reason = 0.0, f"Not looked up: {', '.join(sorted(needed - found))}."
    elif given is None:
        score, reason = LOOKED_UP, 'The last message does not end in "Answer: N".'
    elif is_right:
        score, reason = 1.0, f"Right: {given}."
    else:
        score, reason = LOOKED_UP, f"Wrong: {given} instead of {answer}."
    return Verdict(
        score=score,
        reason=reason,
        is_right=is_right,
        looked_up=share,
        calculated=any("result" in result for result in results),
        model_calls=sum(message.get("role") == "assistant" for message in messages),
    )


def stated_answer(messages: Sequence[Mapping[str, Any]]) -> int | None:
    """Gives the number that the last message ends in as "Answer: N"; None when it is no such message."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    if last.get("role") != "assistant" or last.get("tool_calls") or not isinstance(content, str):
        return None
    found = _ANSWER.search(content)
    return int(found.group(1)) if found else None


def _read(content: Any) -> dict[str, Any]:
    try:
        read = json.loads(content)
    except (TypeError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
