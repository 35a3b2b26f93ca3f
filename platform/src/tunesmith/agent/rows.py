"""Reading one row of a dataset, whatever its format: its prompt, its answer, its gold answer, and keys to compare rows by.

prompt          the messages before the last assistant turn (all of them where there is none)
answer          the last message, where it is an assistant's
gold            `ground_truth` where the row has one, else the answer: text, a JSON value, or a list of tool calls
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from tunesmith.rendering.messages import parse_arguments

T = TypeVar("T")
Row = dict[str, Any]
"""One JSON object of a dataset, as uploaded."""


class RowFormat(StrEnum):
    """What a dataset's rows are."""

    CHAT = "chat"
    """Conversations with assistant turns to learn from."""
    PROMPTS_WITH_ANSWER = "prompts_with_ground_truth"
    """Conversations that end before the answer, which is in `ground_truth`."""
    PAIRS = "preference_pairs"
    """`input`, `preferred_output`, `non_preferred_output`."""
    PROMPTS = "prompts"
    """Conversations without any answer."""
    COLUMNS = "columns"
    """A column with the prompt and one with the answer, such as `prompt` and `completion`."""
    UNKNOWN = "unknown"


COLUMNS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
)
"""Names of columns that hold a prompt and its answer as text."""


def format_of(row: Row) -> RowFormat:
    """What one row is."""
    if isinstance(row.get("input"), dict) and ("preferred_output" in row or "non_preferred_output" in row):
        return RowFormat.PAIRS
    messages = row.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
        roles = [message.get("role") for message in messages]
        if roles[-1] == "assistant":
            return RowFormat.CHAT
        if row.get("ground_truth") is not None:
            return RowFormat.PROMPTS_WITH_ANSWER
        return RowFormat.CHAT if "assistant" in roles else RowFormat.PROMPTS
    return RowFormat.COLUMNS if columns_of(row) else RowFormat.UNKNOWN


def columns_of(row: Row) -> tuple[str, str] | None:
    """The columns of prompt and answer, where both are text and there are no messages."""
    if "messages" in row:
        return None
    return next(
        (pair for pair in COLUMNS if isinstance(row.get(pair[0]), str) and isinstance(row.get(pair[1]), str)), None
    )


def prompt_of(row: Row) -> list[dict[str, Any]]:
    """The messages that come before the answer."""
    if isinstance(row.get("input"), dict):
        messages = row["input"].get("messages")
        return list(messages) if isinstance(messages, list) else []
    messages = row.get("messages")
    if not isinstance(messages, list):
        return []
    last = next((i for i in reversed(range(len(messages))) if _is_assistant(messages[i])), None)
    return list(messages) if last is None or last < len(messages) - 1 else messages[:last]


def answer_of(row: Row) -> dict[str, Any] | None:
    """The assistant message that a row ends in; of a preference pair, the preferred one."""
    outputs = row.get("preferred_output") if isinstance(row.get("input"), dict) else row.get("messages")
    if isinstance(outputs, list) and outputs and _is_assistant(outputs[-1]):
        return outputs[-1]
    return None


def gold_of(row: Row) -> Any:
    """The gold answer: text, a JSON value, or a list of `{"name", "arguments"}` for tool calls; None where there is none."""
    if row.get("ground_truth") is not None:
        return row["ground_truth"]
    answer = answer_of(row)
    return None if answer is None else tool_calls_of(answer) or text_of(answer)


def with_gold(row: Row) -> Row:
    """A copy whose gold answer is in `ground_truth`, where evaluators look for it."""
    return {**row, "ground_truth": gold_of(row)}


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text; parts that are not text are left out."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(
            part if isinstance(part, str) else str(part.get("text", ""))
            for part in content
            if isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text")
        )
    return content if isinstance(content, str) else ""


def tool_calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name and arguments (as JSON values) of a message's tool calls."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [
        {"name": function.get("name"), "arguments": parse_arguments(function.get("arguments"))}
        for function in functions
        if isinstance(function, dict)
    ]


def row_key(row: Row) -> int:
    """Equal for rows that are the same JSON, key order aside."""
    return _key(row)


def prompt_key(row: Row) -> int:
    """Equal for rows that ask the same, white space and upper case aside."""
    asked = [
        (message.get("role"), " ".join(text_of(message).split()).casefold(), tool_calls_of(message))
        for message in prompt_of(row)
        if isinstance(message, dict)
    ]
    if not asked:
        columns = columns_of(row)
        asked = [" ".join(row[columns[0]].split()).casefold()] if columns else [row]
    return _key(asked)


def seeded_order(seed: int, key: int, salt: str) -> bytes:
    """Sorts things in an order that the seed alone decides: rows keep their places when others are added or moved."""
    return hashlib.blake2b(f"{seed}/{salt}/{key}".encode(), digest_size=16).digest()


@dataclass
class Sample(Generic[T]):
    """At most `most` items of a stream of unknown length, chosen by their keys: the same for the same data, in any order.

    Everything is kept until there is too much; then every second item goes, and of what comes every second one, and so on.
    """

    most: int
    seen: int = 0
    _halvings: int = 0
    _kept: list[tuple[int, T]] = field(default_factory=list)

    def wants(self, key: int) -> bool:
        """Whether the next item, of this key, belongs to the sample; call `add` if so. Counts it as seen."""
        self.seen += 1
        return self._fits(key)

    def add(self, key: int, item: T) -> None:
        """Keep an item that the sample wants."""
        self._kept.append((key, item))
        while len(self._kept) > self.most and self._halvings < 63:
            self._halvings += 1
            self._kept = [(key, item) for key, item in self._kept if self._fits(key)]

    @property
    def items(self) -> list[T]:
        """What was kept, in the order it came."""
        return [item for _, item in self._kept]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self._halvings == 0

    def _fits(self, key: int) -> bool:
        return key & ((1 << self._halvings) - 1) == 0


def _key(value: Any) -> int:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _is_assistant(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"
