"""One row of preference data -> the ids of a prompt and of its two answers.

A row is `{"input": {"messages": [...], "tools": [...]}, "preferred_output": [message], "non_preferred_output": [message]}`: one turn,
both outputs the last assistant message. The prompt is what the gateway would show the model; an answer's ids are what the
renderer puts behind it, its end of turn included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.renderer import Renderer

OUTPUTS = ("preferred_output", "non_preferred_output")
_SPOKEN = ("content", "tool_calls", "reasoning_content", "reasoning")
"""What a message may say something in."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, as token ids; each holds at least one."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def read_pair(
    row: Any, line: int, renderer: Renderer, max_length: int | None = None, variables: dict[str, Any] | None = None
) -> Pair | None:
    """The pair of a row.

    Args:
        row: the parsed JSON of a line.
        line: its number in the file, from 1, for messages.
        renderer: of the base model.
        max_length: prompt and answer together are cut there, in tokens; None = the model's context.
        variables: reach the chat template.

    Returns:
        None when nothing to compare is left of the row within `max_length`: the prompt fills it, or both answers are cut to the
        same ids.

    Raises InvalidArgument, naming the line, when the row is not such a pair, the answers are equal, or the template
    refuses them or shows the prompt differently once it is answered.
    """
    messages, tools = _prompt(row, line)
    prompt_ids = _render(renderer, messages, tools, True, variables, line, "input")
    answers = []
    for field in OUTPUTS:
        shown_ids = _render(renderer, [*messages, _output(row, field, line)], tools, False, variables, line, field)
        if shown_ids[: len(prompt_ids)] != prompt_ids:
            raise _wrong(
                line,
                f"the model's chat template shows 'input' differently once '{field}' follows, so it cannot be trained",
            )
        answers.append(_turn(shown_ids[len(prompt_ids) :], renderer.eos_ids))
    chosen_ids, rejected_ids = answers
    if chosen_ids == rejected_ids:
        raise _wrong(line, f"'{OUTPUTS[0]}' and '{OUTPUTS[1]}' are the same answer; a pair needs two different ones")
    room = (max_length or renderer.context_length) - len(prompt_ids)
    if room < 1 or chosen_ids[:room] == rejected_ids[:room]:
        return None
    return Pair(prompt_ids, chosen_ids[:room], rejected_ids[:room])


def _prompt(row: Any, line: int) -> tuple[list[Any], list[dict[str, Any]] | None]:
    if not isinstance(row, dict) or not isinstance(row.get("input"), dict):
        raise _wrong(line, "a preference row needs 'input', an object with 'messages'")
    if "weight" in row:
        raise _wrong(line, "'weight' has no effect on a preference row; leave it out")
    messages, tools = row["input"].get("messages"), row["input"].get("tools")
    if not isinstance(messages, list) or not messages:
        raise _wrong(line, "'input.messages' must be a list with at least one message")
    if isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        raise _wrong(
            line, f"'input.messages' ends with the assistant; its answers belong into '{OUTPUTS[0]}' and '{OUTPUTS[1]}'"
        )
    if tools is not None and not isinstance(tools, list):
        raise _wrong(line, "'input.tools' must be a list")
    return messages, tools or None


def _output(row: dict[str, Any], field: str, line: int) -> dict[str, Any]:
    output = row.get(field)
    if not isinstance(output, list) or len(output) != 1:
        found = f"has {len(output)}" if isinstance(output, list) else "is no list" if field in row else "is missing"
        raise _wrong(line, f"'{field}' must be a list of one message; it {found}")
    message = output[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise _wrong(line, f"the message of '{field}' must have the role assistant")
    if not any(message.get(key) for key in _SPOKEN):
        raise _wrong(line, f"'{field}' is empty; an answer has content, reasoning or tool calls")
    if message.get("weight", 1) != 1:
        raise _wrong(
            line, f"the message of '{field}' has a weight of {message['weight']}; answers of a pair cannot be weighted"
        )
    return message


def _render(
    renderer: Renderer,
    messages: list[Any],
    tools: list[dict[str, Any]] | None,
    add_generation_prompt: bool,
    variables: dict[str, Any] | None,
    line: int,
    field: str,
) -> list[int]:
    try:
        return renderer.render(messages, tools, add_generation_prompt, **(variables or {}))
    except InvalidArgument as error:
        raise _wrong(line, f"'{field}' cannot be rendered: {error.message}") from error


def _turn(ids: list[int], eos_ids: tuple[int, ...]) -> list[int]:
    """An answer up to its end of turn; what the template writes behind it is not the model's."""
    end = next((position for position, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
    return ids[: end + 1]


def _wrong(line: int, reason: str) -> InvalidArgument:
    return InvalidArgument(f"Dataset validation failed: line {line}: {reason}.")
