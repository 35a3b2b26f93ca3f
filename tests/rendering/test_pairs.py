"""Preference rows: what the model is shown, what of it is an answer, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.rendering import Renderer
from tunesmith.rendering.pairs import read_pair

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
    return Renderer.load(make_model_folder(tmp_path_factory.mktemp("pairs") / "model", context_length=64))


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


def test_a_pair_is_the_gateways_prompt_and_two_turns(renderer: Renderer):
    pair = read_pair(row("4", "five"), 1, renderer)
    assert pair is not None
    assert pair.prompt_ids == renderer.render([QUESTION])
    assert pair.chosen_ids == [*renderer.encode("4"), EOS]
    assert pair.rejected_ids == [*renderer.encode("five"), EOS]


def test_tools_earlier_turns_and_parts_of_text(renderer: Renderer):
    messages = [{"role": "system", "content": "s"}, QUESTION, {"role": "assistant", "content": "4"}, QUESTION]
    data = row([], "no", preferred_output=[CALL], input={"messages": messages, "tools": TOOLS})
    data["non_preferred_output"] = [
        {"role": "assistant", "content": [{"type": "text", "text": "n"}, {"type": "text", "text": "o"}]}
    ]
    pair = read_pair(data, 1, renderer, max_length=10_000)
    assert pair is not None
    assert pair.prompt_ids == renderer.render(messages, TOOLS)
    assert renderer.decode(pair.chosen_ids) == '<tool_call>{"name": "add", "arguments": {}}</tool_call></s>'
    assert renderer.decode(pair.rejected_ids) == "no</s>"


def test_an_end_of_turn_that_is_spelled_in_an_answer_does_not_end_it(renderer: Renderer):
    pair = read_pair(row("a</s>b", "c"), 1, renderer)
    assert pair is not None
    assert pair.chosen_ids == [*renderer.encoder.encode_text("a</s>b"), EOS]


def test_the_bundled_model(renderer: Renderer):
    folder = Path(__file__).parents[2] / "platform/src/tunesmith/catalog/models/tiny-math-v1"
    tiny = Renderer.load(folder)
    pair = read_pair(row("4", "five"), 1, tiny)
    assert pair is not None
    assert tiny.decode(pair.prompt_ids) == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert (tiny.decode(pair.chosen_ids), tiny.decode(pair.rejected_ids)) == ("4<|im_end|>", "five<|im_end|>")


def test_longer_than_the_context_is_cut_and_dropped_when_nothing_is_left_to_compare(renderer: Renderer):
    prompt = len(renderer.render([QUESTION]))
    long = row("4" * 100, "5" + "4" * 100)
    pair = read_pair(long, 1, renderer)
    assert pair is not None
    assert len(pair.prompt_ids) + len(pair.chosen_ids) == len(pair.prompt_ids) + len(pair.rejected_ids) == 64
    assert read_pair(long, 1, renderer, max_length=prompt) is None
    assert read_pair(row("4" * 100, "4" * 99 + "5"), 1, renderer) is None


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
            "has a weight of 0; answers of a pair cannot be weighted",
        ),
        (row(weight=2.0), "'weight' has no effect on a preference row"),
        (row(input={"messages": []}), "'input.messages' must be a list with at least one message"),
        (
            row(input={"messages": [QUESTION, {"role": "assistant", "content": "4"}]}),
            "'input.messages' ends with the assistant",
        ),
        (row(input={"messages": [QUESTION], "tools": "add"}), "'input.tools' must be a list"),
        (
            row(input={"messages": [{"role": "poet", "content": "x"}]}),
            "'input' cannot be rendered: .*unknown role poet",
        ),
        (row(input={"messages": ["hello"]}), r"'input' cannot be rendered: messages\[0\] is not an object"),
        (
            row("4", {"role": "assistant", "content": [{"type": "image_url"}]}),
            "'non_preferred_output' cannot be rendered: .*text only",
        ),
        ({"messages": [QUESTION]}, "a preference row needs 'input', an object with 'messages'"),
        ([], "a preference row needs 'input', an object with 'messages'"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(renderer: Renderer, data: Any, message: str):
    with pytest.raises(InvalidArgument, match=rf"^Dataset validation failed: line 17: .*{message}"):
        read_pair(data, 17, renderer)


def test_a_template_that_changes_the_past_is_refused(tmp_path: Path):
    """One that shows a prompt's last line only until it is answered."""
    folder = make_model_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}{% if add_generation_prompt %}Answer now.{% endif %}"
    )
    with pytest.raises(InvalidArgument, match="line 3: .*shows 'input' differently once 'preferred_output' follows"):
        read_pair(row(), 3, Renderer.load(folder))
