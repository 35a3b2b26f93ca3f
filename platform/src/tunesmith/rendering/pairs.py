"""From a row of preference data to what is compared: the same prompt answered twice, as two examples.

A row is `{"input": {"messages": [...], "tools": [...]}, "preferred_output": [message], "non_preferred_output": [message]}`: one turn,
both outputs the assistant's last message. Each answer is read like the last turn of an SFT row (`examples.py`): the prompt is
the one that the gateway would send, and what counts is the answer with the id that ends it.
"""

from __future__ import annotations

from typing import Any

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.examples import Example, ExampleRenderer, History
from tunesmith.rendering.renderer import Renderer

PREFERRED, OTHER = OUTPUTS = ("preferred_output", "non_preferred_output")
_SPOKEN = ("content", "tool_calls", "reasoning_content", "reasoning")
"""What a message may say something in."""


class PairRenderer:
    """Turns the rows of one preference dataset into examples for one model."""

    def __init__(self, renderer: Renderer, history: History = "default", max_tokens: int | None = None) -> None:
        """`history` and `max_tokens` as in `ExampleRenderer`, which raises what they are refused with."""
        self._examples = ExampleRenderer(renderer, history, max_tokens)
        self._max_tokens = max_tokens or renderer.context_length

    def examples(self, row: Any) -> list[Example]:
        """The preferred and the other answer of a row, each behind the prompt, with weight 1 on the answer's tokens.

        Their ids agree up to the first weighted one: the prompt. Empty when nothing is left to compare within `max_tokens`, because
        the prompt fills it or the answers differ only behind it.
        Raises InvalidArgument with what is wrong: a field is missing or of another shape, an answer is empty, both are the same,
        or the chat template refuses them.
        """
        messages, tools = _prompt(row)
        outputs = [_output(row, field) for field in OUTPUTS]
        answers = [self._answered(messages, tools, *pair) for pair in zip(outputs, OUTPUTS, strict=True)]
        shown = [example for example in answers if example is not None]
        same = len(shown) == 2 and shown[0].token_ids == shown[1].token_ids
        if outputs[0] == outputs[1] or (same and len(shown[0].token_ids) < self._max_tokens):
            raise InvalidArgument(f"'{PREFERRED}' and '{OTHER}' are the same answer; a pair needs two different ones")
        return shown if len(shown) == 2 and not same else []

    def _answered(self, messages: list[Any], tools: Any, output: dict[str, Any], field: str) -> Example | None:
        """The prompt and one answer; None when `max_tokens` leaves nothing of the answer."""
        try:
            made = self._examples.examples({"messages": [*messages, output], "tools": tools})
        except InvalidArgument as error:
            raise InvalidArgument(f"'input' with '{field}' behind it: {error.message}") from error
        return made[0] if made else None


def _prompt(row: Any) -> tuple[list[Any], Any]:
    """The messages in front of the answers, of which none is trained, and the tools."""
    if not isinstance(row, dict) or not isinstance(row.get("input"), dict):
        raise InvalidArgument("a preference row is a JSON object with 'input', an object with 'messages'")
    if "weight" in row:
        raise InvalidArgument("'weight' has no effect on a preference row; leave it out")
    messages = row["input"].get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument("'input.messages' must be a list with at least one message")
    if isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        raise InvalidArgument(
            f"'input.messages' ends with the assistant; its answers belong into '{PREFERRED}' and '{OTHER}'"
        )
    given = [
        {**message, "weight": 0} if isinstance(message, dict) and message.get("role") == "assistant" else message
        for message in messages
    ]
    return given, row["input"].get("tools")


def _output(row: dict[str, Any], field: str) -> dict[str, Any]:
    output = row.get(field)
    if not isinstance(output, list) or len(output) != 1:
        found = f"has {len(output)}" if isinstance(output, list) else "is no list" if field in row else "is missing"
        raise InvalidArgument(f"'{field}' must be a list of one message; it {found}")
    message = output[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise InvalidArgument(f"the message of '{field}' must have the role assistant")
    if not any(message.get(key) for key in _SPOKEN):
        raise InvalidArgument(f"'{field}' is empty; an answer has content, reasoning or tool calls")
    if message.get("weight", 1) != 1:
        raise InvalidArgument(
            f"the message of '{field}' has the weight {message['weight']!r}; answers of a pair are not weighted"
        )
    return message
