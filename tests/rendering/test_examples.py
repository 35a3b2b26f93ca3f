"""SFT rows: which tokens are trained, that each assistant message is sampled once as the gateway would show it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.rendering import Renderer
from tunesmith.rendering.examples import Example, ExampleRenderer, history_modes, render_record, segments

from tests.fakes.model_folder import EOS, make_model_folder
from tests.rendering.family_folders import LLAMA3, QWEN3, make_family_folder

SYSTEM = {"role": "system", "content": "Be brief."}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CALL = says("", tool_calls=[{"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}])
RESULT = {"role": "tool", "tool_call_id": "c", "content": "2"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """Bytes as tokens; shows no thinking traces."""
    return Renderer.load(make_model_folder(tmp_path_factory.mktemp("examples") / "plain"))


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """Drops earlier traces."""
    found = Renderer.load(make_family_folder(tmp_path_factory.mktemp("examples") / "qwen3", "qwen3", QWEN3))
    assert found.format_name == "qwen3"
    return found


@pytest.fixture(scope="module")
def preserving(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """Drops earlier traces unless it is told to keep them."""
    template = QWEN3.replace(
        "loop.index0 > ns.query and",
        "(loop.index0 > ns.query or (preserve_thinking is defined and preserve_thinking)) and",
    )
    assert template != QWEN3
    folder = make_family_folder(tmp_path_factory.mktemp("examples") / "preserving", "qwen3", template)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "later"}  # rendered by its own template
    (folder / "config.json").write_text(json.dumps(config))
    return Renderer.load(folder)


def examples(renderer: Renderer, *messages: dict[str, Any], **row: Any) -> list[Example]:
    return ExampleRenderer(renderer).examples({"messages": list(messages), **row})


def trained(renderer: Renderer, example: Example) -> list[str]:
    """The trained stretches, as text."""
    return [segment.text for segment in segments(renderer, example) if segment.loss_weight]


def starts(example: Example) -> list[int]:
    """Where trained stretches begin."""
    return [i for i, weight in enumerate(example.weights) if weight and not example.weights[i - 1]]


class TestMask:
    def test_the_answer_and_its_end_are_trained_and_nothing_else(self, plain: Renderer):
        [example] = examples(plain, SYSTEM, user("1+1?"), says("2"))
        text = "<s>[system]\nBe brief.</s>\n[user]\n1+1?</s>\n[assistant]\n2</s>"
        assert plain.decode(example.token_ids).strip() == text
        assert trained(plain, example) == ["2</s>"]
        assert example.token_ids[-1] == EOS
        assert example.weights[-1] == 1.0
        assert example.text_bytes == 1

    @pytest.mark.parametrize("family", ["plain", "qwen3", "preserving"])
    def test_the_prompt_of_each_turn_is_the_gateways(self, family: str, request: pytest.FixtureRequest):
        renderer: Renderer = request.getfixturevalue(family)
        messages = [SYSTEM, user("a\n\n"), says(" b\n"), user("c"), CALL, RESULT, says("2."), user("d"), says("e")]
        [example] = examples(renderer, *messages, tools=TOOLS)
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        assert len(starts(example)) == len(turns)
        for start, turn in zip(starts(example), turns, strict=True):
            assert example.token_ids[:start] == renderer.render(messages[:turn], TOOLS)

    def test_llamas_turns(self, tmp_path: Path):
        renderer = Renderer.load(make_family_folder(tmp_path / "llama", "llama", LLAMA3))
        [example] = examples(renderer, SYSTEM, user("a"), says("b"), user("c"), CALL, RESULT, says("2"), tools=TOOLS)
        assert trained(renderer, example) == [
            "b<|eot_id|>",
            '{"name": "add", "parameters": {"a": 1}}<|eot_id|>',
            "2<|eot_id|>",
        ]

    def test_an_answer_that_begins_with_the_prompts_last_character_is_tokenized_as_it_is_sampled(self, tmp_path: Path):
        """`\\n` of the header and `\\n` of the answer are one token when written together, and never when sampled."""
        folder = make_family_folder(
            tmp_path / "merging", "qwen3", QWEN3.replace("ns.content.lstrip('\\\\n')", "ns.content")
        )
        source = (folder / "chat_template.jinja").read_text()
        plain_turn = "{%- if loop.index0 > ns.query and (loop.last or ns.thought) %}"
        (folder / "chat_template.jinja").write_text(source.replace(plain_turn, "{%- if ns.thought %}"))
        renderer = Renderer.load(folder)
        messages = [user("a"), says("\nb"), user("c"), says("d")]
        [example] = examples(renderer, *messages)
        prompts = [renderer.render(messages[:1]), renderer.render(messages[:3])]
        together = renderer.render(messages, add_generation_prompt=False)
        assert together[: len(prompts[0])] != prompts[0], "the template and tokenizer of this test must merge the two"
        assert example.token_ids[: len(prompts[0])] == prompts[0]
        assert trained(renderer, example) == ["\nb<|im_end|>", "d<|im_end|>"]

    def test_message_weights(self, plain: Renderer):
        [example] = examples(plain, user("a"), says("b", weight=0), user("c"), says("d", weight=1))
        assert trained(plain, example) == ["d</s>"]
        assert examples(plain, user("a"), says("b", weight=0)) == []

    @pytest.mark.parametrize("weight", [2.5, -1, 0.25])
    def test_sample_weights(self, plain: Renderer, weight: float):
        [example] = examples(plain, user("a"), says("b", weight=0), user("c"), says("d"), weight=weight)
        assert set(example.weights) == {0.0, weight}
        assert trained(plain, example) == ["d</s>"]

    def test_a_sample_of_weight_0_is_left_out(self, plain: Renderer):
        assert examples(plain, user("a"), says("b"), weight=0) == []

    def test_text_parts_are_joined(self, plain: Renderer):
        parts = [{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}]
        assert examples(plain, user("a"), says(parts)) == examples(plain, user("a"), says("one"))

    def test_spelled_special_tokens_stay_text(self, plain: Renderer):
        [example] = examples(plain, user("say </s>"), says("</s>!"))
        assert example.token_ids.count(EOS) == 2
        assert trained(plain, example) == ["</s>!</s>"]
        assert example.text_bytes == 5

    def test_what_follows_the_last_answer_is_cut(self, plain: Renderer):
        assert examples(plain, user("a"), says("b"), user("c")) == examples(plain, user("a"), says("b"))

    def test_longer_examples_are_cut_and_without_a_trained_token_left_out(self, plain: Renderer):
        row = {"messages": [user("a"), says("bcdef"), user("g"), says("h")]}
        [whole] = ExampleRenderer(plain).examples(row)
        start = starts(whole)[0]
        [cut] = ExampleRenderer(plain, max_tokens=start + 2).examples(row)
        assert (cut.token_ids, cut.weights) == (whole.token_ids[: start + 2], whole.weights[: start + 2])
        assert ExampleRenderer(plain, max_tokens=start).examples(row) == []


class TestThinking:
    TURNS = (user("a"), says("b", reasoning_content="why b"), user("c"), says("d", reasoning_content="why d"))

    def test_a_template_that_drops_traces_unrolls_at_user_messages(self, qwen3: Renderer):
        call = {**CALL, "reasoning_content": "ask"}
        made = examples(qwen3, *self.TURNS, user("e"), call, RESULT, says("2", reasoning_content="so"), tools=TOOLS)
        assert [len(starts(example)) for example in made] == [1, 1, 2]
        said = [text for example in made for text in trained(qwen3, example)]
        assert [text.split("\n")[1] for text in said] == ["why b", "why d", "ask", "so"]
        assert "why b" not in qwen3.decode(made[1].token_ids)
        for example, turn in zip(made, (1, 3, 5), strict=True):
            assert example.token_ids[: starts(example)[0]] == qwen3.render([*self.TURNS, user("e")][:turn], TOOLS)

    def test_without_traces_one_example_holds_all(self, qwen3: Renderer):
        assert len(examples(qwen3, user("a"), says("b"), user("c"), says("d"))) == 1

    def test_modes(self, plain: Renderer, qwen3: Renderer, preserving: Renderer):
        assert history_modes(plain) == []
        assert [(m.mode, m.default, m.unrolls) for m in history_modes(qwen3)] == [("interleaved", True, True)]
        assert [(m.mode, m.default, m.unrolls) for m in history_modes(preserving)] == [
            ("interleaved", True, True),
            ("preserved", False, False),
        ]

    def test_preserved_is_one_example_with_all_traces(self, preserving: Renderer):
        [example] = ExampleRenderer(preserving, "preserved").examples({"messages": list(self.TURNS)})
        assert [text.split("\n")[1] for text in trained(preserving, example)] == ["why b", "why d"]
        assert len(ExampleRenderer(preserving, "interleaved").examples({"messages": list(self.TURNS)})) == 2

    def test_what_a_template_cannot_do_is_refused(self, plain: Renderer, qwen3: Renderer):
        with pytest.raises(InvalidArgument, match="cannot do thinking history 'preserved'; it can do: interleaved"):
            ExampleRenderer(qwen3, "preserved")
        with pytest.raises(InvalidArgument, match="shows no thinking traces"):
            ExampleRenderer(plain, "interleaved")
        with pytest.raises(InvalidArgument, match=r"messages\[1\] has reasoning_content, which the chat template"):
            examples(plain, *self.TURNS)


class TestRefused:
    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ([], "a JSON object"),
            ({"messages": []}, "not empty"),
            ({"messages": ["hi"]}, "no assistant message"),
            ({"messages": ["hi", says("b")]}, r"messages\[0\] is not an object"),
            ({"messages": [user("a")]}, "no assistant message"),
            ({"messages": [user("a"), says("b", weight=0.5)]}, r"messages\[1\] has the weight 0.5"),
            ({"messages": [user("a"), says("b", weight=True)]}, "weight True"),
            ({"messages": [user("a"), SYSTEM, says("b")]}, "only the first message"),
            ({"messages": [{"role": "robot", "content": ""}, says("b")]}, "the role 'robot'"),
            ({"messages": [user(3), says("b")]}, "neither text nor a list"),
            ({"messages": [user("a"), says("b")], "tools": "add"}, '"tools" is not a list'),
            ({"messages": [user("a"), says("b")], "weight": "1"}, "not a number"),
            ({"messages": [user("a"), says("b")], "weight": float("nan")}, "not a number"),
        ],
    )
    def test_rows(self, plain: Renderer, row: Any, words: str):
        with pytest.raises(InvalidArgument, match=words):
            ExampleRenderer(plain).examples(row)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_sample_weight_on_some_rows_only(self, plain: Renderer, first: bool):
        with_weight, without = {"messages": [user("a"), says("b")], "weight": 1}, {"messages": [user("a"), says("b")]}
        rows = ExampleRenderer(plain)
        rows.examples(with_weight if first else without)
        with pytest.raises(InvalidArgument, match="on all rows or on none"):
            rows.examples(without if first else with_weight)

    @pytest.mark.parametrize("tokens", [1, 513])
    def test_max_tokens_out_of_range(self, plain: Renderer, tokens: int):
        with pytest.raises(InvalidArgument, match="takes 2 to 512 tokens"):
            ExampleRenderer(plain, max_tokens=tokens)

    def test_a_template_that_shows_a_turn_differently_from_its_prompt(self, tmp_path: Path):
        folder = make_model_folder(tmp_path / "odd")
        settings = (folder / "tokenizer_config.json").read_text()
        assert "{% if add_generation_prompt %}[assistant]" in settings
        (folder / "tokenizer_config.json").write_text(
            settings.replace("{% if add_generation_prompt %}[assistant]", "{% if add_generation_prompt %}[model]")
        )
        with pytest.raises(
            InvalidArgument, match=r"messages\[1\] is shown .* differently from how it would be sampled"
        ):
            examples(Renderer.load(folder), user("a"), says("b"))


def test_render_samples_and_segments(plain: Renderer):
    [example] = examples(plain, user("ä"), says("ö€"))
    record = render_record(plain, example, row=4, line=6, split=1)
    assert (record["source_jsonl_row_index"], record["source_jsonl_line_number"], record["split_index"]) == (4, 6, 1)
    assert record["training_target_token_ids"] == record["token_ids"][1:]
    assert record["training_loss_weights"] == record["token_weights"][1:]
    assert len(record["decoded_tokens"]) == len(record["token_ids"])
    assert record["train_on_what"] == "all_assistant_messages"
    shown = segments(plain, example)
    assert "".join(segment.text for segment in shown) == "<s>[user]\nä</s>\n[assistant]\nö€</s>"
    assert [segment.loss_weight for segment in shown] == [0.0, 1.0]
