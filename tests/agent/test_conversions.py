"""Conversions: listed with a count and an example, applied to copies, and nothing else is changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tunesmith.agent.conversions import ConversionName, apply, propose

USER = {"role": "user", "content": "1+1?"}


def converted(row: dict[str, Any], *names: ConversionName) -> dict[str, Any]:
    before = copy.deepcopy(row)
    (after,) = apply([row], names or tuple(ConversionName))
    assert row == before, "what is given stays as it is"
    return after


def roles(row: dict[str, Any]) -> list[str]:
    return [message["role"] for message in row["messages"]]


@pytest.mark.parametrize(
    ("gold", "text"),
    [("2", "2"), (2, "2"), (True, "true"), (["2"], "2"), (["a", "b"], '["a", "b"]'), ({"é": [1]}, '{"é": [1]}')],
)
def test_ground_truth_becomes_the_answer_and_stays(gold: Any, text: str) -> None:
    after = converted({"messages": [USER], "ground_truth": gold, "id": 7})
    assert after["messages"] == [USER, {"role": "assistant", "content": text}]
    assert (after["ground_truth"], after["id"]) == (gold, 7)


def test_a_row_that_ends_in_an_answer_keeps_it() -> None:
    row = {"messages": [USER, {"role": "assistant", "content": "two"}], "ground_truth": "2"}
    assert converted(row) is row
    assert propose([row]) == []


def test_function_messages_become_tool_messages_that_name_their_calls() -> None:
    after = converted(
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
                {"role": "function", "name": "add", "content": "2"},
                {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
                {"role": "function", "name": "add", "content": "3"},
                {"role": "assistant", "content": "3"},
            ]
        }
    )
    assert roles(after) == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    asked = [message["tool_calls"][0]["id"] for message in after["messages"] if message.get("tool_calls")]
    answered = [message["tool_call_id"] for message in after["messages"] if message["role"] == "tool"]
    assert asked == answered
    assert len(set(asked)) == 2
    assert not any("function_call" in message for message in after["messages"])


def test_results_of_several_calls_find_their_own_by_name() -> None:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": "{}"}} for i, n in enumerate("ab")
    ]
    results = [{"role": "function", "name": name, "content": name} for name in "ba"]
    after = converted({"messages": [USER, {"role": "assistant", "content": "", "tool_calls": calls}, *results]})
    assert [message["tool_call_id"] for message in after["messages"][2:]] == ["c1", "c0"]


def test_system_messages_move_to_the_front_as_one() -> None:
    system = [{"role": "system", "content": text} for text in ("Be brief.", "Be kind.")]
    after = converted({"messages": [USER, system[0], {"role": "assistant", "content": "2"}, system[1]]})
    assert after["messages"][0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert roles(after) == ["system", "user", "assistant"]


def test_columns_become_messages_and_the_rest_is_kept() -> None:
    after = converted({"instruction": "Add.", "input": "1 1", "output": "2", "source": "book"})
    assert after == {
        "messages": [{"role": "user", "content": "Add.\n\n1 1"}, {"role": "assistant", "content": "2"}],
        "source": "book",
    }
    assert roles(converted({"prompt": "p", "completion": "c", "system": "s"})) == ["system", "user", "assistant"]


def test_text_parts_become_text_but_pictures_stay() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert converted({"messages": [{"role": "user", "content": parts}]})["messages"][0]["content"] == "ab"
    picture = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
    assert converted(picture) is picture


def test_preference_pairs_are_converted_on_all_sides() -> None:
    parts = [{"type": "text", "text": "a"}]
    row = {
        "input": {"messages": [{"role": "user", "content": parts}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": parts}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    after = converted(row)
    assert after["input"] == {"messages": [{"role": "user", "content": "a"}], "tools": []}
    assert after["preferred_output"] == [{"role": "assistant", "content": "a"}]


def test_proposals_say_how_many_rows_and_show_the_first() -> None:
    plain = {"messages": [USER, {"role": "assistant", "content": "2"}]}
    rows = [plain, {"messages": [USER], "ground_truth": "2"}, {"messages": [USER], "ground_truth": "3"}]
    (proposal,) = propose(rows)
    assert (proposal.name, proposal.rows, proposal.line) == (ConversionName.GROUND_TRUTH, 2, 2)
    assert proposal.before == rows[1]
    assert proposal.after["messages"][-1]["content"] == "2"
    json.loads(proposal.model_dump_json())


def test_examples_of_huge_rows_are_short() -> None:
    row = {"messages": [{"role": "user", "content": "x" * 10**6}], "ground_truth": list(range(10**4))}
    (proposal,) = propose([row])
    assert len(proposal.model_dump_json()) < 3000
    assert len(converted(row)["messages"][1]["content"]) > 10**4


def test_only_what_was_named_is_applied() -> None:
    row = {"messages": [USER, {"role": "system", "content": "s"}], "ground_truth": "2"}
    after = converted(row, ConversionName.GROUND_TRUTH)
    assert roles(after) == ["user", "system", "assistant"]
    with pytest.raises(ValueError, match="no_such"):
        list(apply([row], ["no_such"]))


def test_lists_of_one_label_become_that_label_unless_others_hold_several() -> None:
    one, two = ({"messages": [USER], "ground_truth": labels} for labels in (["a"], ["a", "b"]))
    assert [item.name for item in propose([one, one])] == [ConversionName.GROUND_TRUTH_LABEL]
    (mixed,) = propose([one, two, one])
    assert (mixed.name, mixed.rows) == (ConversionName.GROUND_TRUTH, 3)
    texts = [row["messages"][-1]["content"] for row in apply([one, two], [mixed.name])]
    assert texts == ['["a"]', '["a", "b"]']


message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": st.one_of(
            st.none(), st.text(), st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}))
        ),
        "name": st.sampled_from(["f", "g"]),
        "function_call": st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "arguments": st.just("{}")}),
    },
)


@settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(message, max_size=6), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text(), max_size=2)))
def test_converted_rows_need_no_conversion(messages: list[dict[str, Any]], gold: Any) -> None:
    row = {"messages": messages, "ground_truth": gold}
    after = converted(row)
    assert propose([after]) == []
    assert (propose([row]) == []) == (after is row)
