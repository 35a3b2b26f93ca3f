"""What counts as the same message: the rule by which a conversation continues a recorded turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tunesmith.rendering.messages import normalize_messages, same_assistant_message, same_history


def said(content: str | None = None, *arguments: str, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content, **more}
    if arguments:
        message["tool_calls"] = [
            {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": text}}
            for n, text in enumerate(arguments)
        ]
    return message


@pytest.mark.parametrize(
    ("recorded", "incoming", "same"),
    [
        (said("a"), said("a"), True),
        (said("a"), said("a "), False),
        (said(None, "{}"), said("", "{}"), True),
        (said("a"), {"role": "user", "content": "a"}, False),
        (said("a", '{"x": 1, "y": [true]}'), said("a", '{"y":[true],"x":1.0}'), True),
        (said("a", '{"x": 1}'), said("a", '{"x": true}'), False),
        (said("a", '{"x": [1]}'), said("a", '{"x": [1, 1]}'), False),
        (said("a", '{"x": 1}'), said("a", '{"x": 1}', "{}"), False),
        (said("a", "{}", '{"x": 1}'), said("a", '{"x": 1}', "{}"), False),
        (said("a", "not json"), said("a", "not json"), True),
        (said("a", "not json"), said("a", "not  json"), False),
        (said("a", "[" * 100_000 + "]" * 100_000), said("a", "[" * 100_000 + "]" * 100_000 + " "), False),
        (said("a", reasoning_content="r"), said("a"), True),
        (said("a", reasoning_content="r"), said("a", reasoning_content="r"), True),
        (said("a", reasoning_content="r"), said("a", reasoning_content="other"), False),
        (said("a"), said("a", reasoning_content="r"), False),
    ],
)
def test_an_assistant_message_is_what_was_recorded(
    recorded: dict[str, Any], incoming: dict[str, Any], same: bool
) -> None:
    (normal,) = normalize_messages([incoming])
    assert same_assistant_message(recorded, normal) is same


def test_call_ids_do_not_count_and_names_do() -> None:
    other = json.loads(json.dumps(said("a", "{}")).replace('"c0"', '"another"'))
    assert same_assistant_message(said("a", "{}"), other)
    renamed = json.loads(json.dumps(said("a", "{}")).replace('"f"', '"g"'))
    assert not same_assistant_message(said("a", "{}"), renamed)


def test_histories_are_compared_message_by_message() -> None:
    past = normalize_messages(
        [
            {"role": "user", "content": "q"},
            said(None, '{"x": 1}', reasoning_content="r"),
            {"role": "tool", "tool_call_id": "c0", "content": "3"},
        ]
    )
    without = [past[0], {**past[1], "tool_calls": [{**past[1]["tool_calls"][0], "id": "n"}]}, past[2]]
    del without[1]["reasoning_content"]
    without[2] = {**past[2], "tool_call_id": "n"}
    assert same_history(past, without)
    assert same_history(without, past), "the first turn may have been sent without reasoning too"
    assert not same_history(past, past[:2])
    assert not same_history(past, [past[0], past[1], {**past[2], "content": "4"}])
    assert not same_history(past, [{**past[0], "name": "eve"}, *past[1:]])


def test_reasoning_has_one_name() -> None:
    (message,) = normalize_messages(
        [{"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": None}]
    )
    assert message == {"role": "assistant", "content": "a", "reasoning_content": "r"}
