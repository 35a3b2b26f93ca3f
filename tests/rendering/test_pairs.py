"""Preference rows: what the model is shown, what of it is an answer, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.rendering import Renderer
from tunesmith.rendering.examples import Example
from tunesmith.rendering.pairs import PairRenderer

from tests.fakes.model_folder import EOS, make_model_folder

QUESTION = {"role": "user", "content": "2+2?"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": "{}"}}],
}


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer.load(make_model_folder(tmp_path_factory.mktemp("pairs") / "model"))


def row(chosen: Any = "4", rejected: Any = "5", **changes: Any) -> dict[str, Any]:
    """A good row, with answers given as text or messages, and fields replaced."""
    answers = [
        value if isinstance(value, dict) else {"role": "assistant", "content": value} for value in (chosen, rejected)
    ]
    return {
        "input": {"messages": [QUESTION], "tools": []},
        "preferred_output": [answers[0]],
        "non_preferred_output": [answers[1]],
    } | changes


def ids(example: Example) -> tuple[list[int], list[int]]:
    """Prompt and answer, told apart by the weights, which must be 0s and then 1s."""
    prompt = example.weights.index(1.0)
    assert example.weights == [0.0] * prompt + [1.0] * (len(example.token_ids) - prompt)
    return example.token_ids[:prompt], example.token_ids[prompt:]


def test_a_pair_is_the_gateways_prompt_and_two_turns(renderer: Renderer):
    chosen, rejected = PairRenderer(renderer).examples(row("4", "five"))
    assert ids(chosen) == (renderer.render([QUESTION]), [*renderer.encode("4"), EOS])
    assert ids(rejected) == (renderer.render([QUESTION]), [*renderer.encode("five"), EOS])
    assert (chosen.text_bytes, rejected.text_bytes) == (1, 4)


def test_tools_earlier_turns_and_parts_of_text(renderer: Renderer):
    messages = [{"role": "system", "content": "s"}, QUESTION, {"role": "assistant", "content": "4"}, QUESTION]
    parts = {"role": "assistant", "content": [{"type": "text", "text": "n"}, {"type": "text", "text": "o"}]}
    data = row(CALL, parts, input={"messages": messages, "tools": TOOLS})
    (prompt, called), (same, said) = map(ids, PairRenderer(renderer).examples(data))
    assert prompt == same == renderer.render(messages, TOOLS)
    assert renderer.decode(called) == '<tool_call>{"name": "add", "arguments": {}}</tool_call></s>'
    assert renderer.decode(said) == "no</s>"


def test_an_end_of_turn_that_is_spelled_in_an_answer_does_not_end_it(renderer: Renderer):
    chosen, _ = PairRenderer(renderer).examples(row("a</s>b", "c"))
    assert ids(chosen)[1] == [*renderer.encoder.encode_text("a</s>b"), EOS]


def test_the_bundled_model():
    tiny = Renderer.load(Path(__file__).parents[2] / "platform/src/tunesmith/catalog/models/tiny-math-v1")
    (prompt, chosen), (_, rejected) = map(ids, PairRenderer(tiny).examples(row("4", "five")))
    assert tiny.decode(prompt) == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert (tiny.decode(chosen), tiny.decode(rejected)) == ("4<|im_end|>", "five<|im_end|>")


def test_longer_than_the_context_is_cut_and_dropped_when_nothing_is_left_to_compare(renderer: Renderer):
    prompt = len(renderer.render([QUESTION]))
    pairs = PairRenderer(renderer, max_tokens=64)
    long = row("4" * 100, "5" + "4" * 100)
    assert [len(example.token_ids) for example in pairs.examples(long)] == [64, 64]
    assert PairRenderer(renderer, max_tokens=prompt).examples(long) == []
    assert pairs.examples(row("4" * 100, "4" * 99 + "5")) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (row(preferred_output=None), "'preferred_output' must be a list of one message; it is no list"),
        (row(preferred_output=[]), "'preferred_output' must be a list of one message; it has 0"),
        (
            row(non_preferred_output=[{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]),
            "'non_preferred_output' must be a list of one message; it has 2",
        ),
        (
            {"input": {"messages": [QUESTION]}, "preferred_output": [{"role": "assistant", "content": "a"}]},
            "'non_preferred_output' must be a list of one message; it is missing",
        ),
        (row("4", "4"), "'preferred_output' and 'non_preferred_output' are the same answer"),
        (row("4", {"role": "assistant"}), "'non_preferred_output' is empty"),
        (row("", "4"), "'preferred_output' is empty"),
        (row("4", QUESTION), "the message of 'non_preferred_output' must have the role assistant"),
        (
            row("4", {"role": "assistant", "content": "5", "weight": 0}),
            "has the weight 0; answers of a pair are not weighted",
        ),
        (row(weight=2.0), "'weight' has no effect on a preference row"),
        (row(input={"messages": []}), "'input.messages' must be a list with at least one message"),
        (
            row(input={"messages": [QUESTION, {"role": "assistant", "content": "4"}]}),
            "'input.messages' ends with the assistant",
        ),
        (row(input={"messages": [QUESTION], "tools": "add"}), "'input' .*\"tools\" is not a list of objects"),
        (
            row(input={"messages": [{"role": "poet", "content": "x"}]}),
            "'input' .*the role 'poet'; use one of",
        ),
        (row(input={"messages": ["hello"]}), r"'input' .*messages\[0\] is not an object"),
        (
            row("4", {"role": "assistant", "content": [{"type": "image_url"}]}),
            "'non_preferred_output' behind it: .*text only",
        ),
        ({"messages": [QUESTION]}, "a preference row is a JSON object with 'input', an object with 'messages'"),
        ([], "a preference row is a JSON object with 'input', an object with 'messages'"),
    ],
)
def test_what_is_no_pair_is_refused(renderer: Renderer, data: Any, message: str):
    with pytest.raises(InvalidArgument, match=message):
        PairRenderer(renderer).examples(data)
