"""The tiny tool-calling model's questions are exact, repeatable and kept apart; its text, its ids and its template agree."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from tunesmith.rendering import Renderer

from examples.tool_agent.evaluator.scoring import judge
from examples.tool_agent.server.shop import ITEMS, SHOPS, entry
from examples.tool_agent.server.tools import TOOLS, calculate, run_tool
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import encode
from scripts.tiny_model.sampling import TEMPERATURES
from scripts.tiny_model.stages import config
from scripts.tiny_model.tools.demonstrations import Habit, Mixture, demonstration, shown
from scripts.tiny_model.tools.episodes import Episode, evaluate, held_out, read_calls
from scripts.tiny_model.tools.questions import FAMILIES, PLURALS, Part, Question, part_of, question
from scripts.tiny_model.tools.task import HABITS, train_tokenizer
from scripts.tiny_model.tools.template import CHAT_TEMPLATE

SHIPPED = Path(__file__).resolve().parents[2] / "platform/src/tunesmith/catalog/models/tiny-tools-v1"
CALL = re.compile(r"<tool_call>(.*?)</tool_call>")


@lru_cache(maxsize=1)
def trained() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("model")
    tokenizers.save(trained(), folder, CHAT_TEMPLATE)
    (folder / "config.json").write_text(json.dumps(config().to_dict()))
    return Renderer.load(folder)


def drawn(count: int = 700, part: Part = Part.PRETRAIN) -> list[Question]:
    return [question("test", index, part) for index in range(count)]


def test_every_question_names_its_items_and_its_numbers_come_from_the_shop() -> None:
    for item in drawn():
        for name in item.items:
            assert {name, PLURALS[name]} & set(re.findall(r"[a-z]+", item.text)), item
        entries = [entry(item.shop, name) for name in item.items]
        listed = {str(number) for found in entries if found for number in (found.price, found.stock)}
        asked = set(re.findall(r"\d+", item.text.split(": ", 1)[1]))
        assert set(re.findall(r"\d+", item.expression)) <= listed | asked, item
        assert item.answer == calculate(item.expression) > 0


def test_all_families_occur_and_questions_repeat_exactly() -> None:
    assert drawn() == drawn()
    assert set(Counter(item.family for item in drawn())) == set(FAMILIES)


def test_no_shop_belongs_to_two_parts() -> None:
    for part in Part:
        assert {part_of(item.shop) for item in drawn(200, part)} == {part}
    assert Counter(part_of(shop) for shop in SHOPS) == {Part.PRETRAIN: 5400, Part.TRAIN: 1800, Part.HELD_OUT: 1800}


def test_a_price_cannot_be_known_from_the_item() -> None:
    for name in ITEMS:
        found = [entry(shop, name) for shop in SHOPS[:300]]
        commonest = Counter(one.price for one in found if one).most_common(1)[0][1]
        assert commonest < 20  # of 300; 5 expected


@pytest.mark.parametrize("habit", list(Habit))
def test_each_habit_scores_what_it_deserves(habit: Habit) -> None:
    for index, item in enumerate(drawn(60)):
        messages = []
        for segment in demonstration(item, habit, random.Random(index)):
            if segment.is_said:
                said = segment.text.removesuffix("<|im_end|>")
                messages.append({"role": "assistant", "content": said, "tool_calls": read_calls(said)})
            elif messages:
                results = re.findall(r"<\|im_start\|>tool\n(.*?)<\|im_end\|>", segment.text)
                messages += [{"role": "tool", "content": result} for result in results]
        expected = {Habit.CLEAN: 1.0, Habit.NO_CALCULATOR: 0.2, Habit.WRONG_SUM: 0.2, Habit.NO_FORM: 0.2}
        assert judge(messages, item.answer, item.items).score == expected.get(habit, 0.0), messages


def test_the_pieces_of_a_demonstration_are_what_the_template_renders(renderer: Renderer) -> None:
    for index, item in enumerate(drawn(60)):
        segments = demonstration(item, random.Random(index).choice(list(Habit)), random.Random(index))
        system = re.match(r"<\|im_start\|>system\n(.*)\nTools:", segments[0].text)
        assert system
        messages = [{"role": "system", "content": system.group(1)}, {"role": "user", "content": item.text}]
        shown = ""
        for segment in segments:
            if not segment.is_said:
                assert renderer.decode(renderer.render(messages, TOOLS)) == shown + segment.text
            else:
                said = renderer.parse(segment.text.removesuffix("<|im_end|>"), True)
                messages.append(said)
                for call in said.get("tool_calls") or []:
                    function = call["function"]
                    result = run_tool(item.shop, function["name"], function["arguments"])
                    messages.append({"role": "tool", "content": result})
            shown += segment.text


def test_a_conversation_cut_into_pieces_has_the_ids_of_the_whole() -> None:
    tokenizer = trained()
    for index, item in enumerate(drawn(100)):
        texts = [segment.text for segment in demonstration(item, Habit.CLEAN, random.Random(index))]
        pieces = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        assert list(itertools.chain(*pieces)) == tokenizer.encode("".join(texts), add_special_tokens=False).ids


@pytest.mark.parametrize(
    "text",
    ["Ünïcödé 😀 \t\n\r x", '{"name": "', "  two  spaces ", "0123456789", '"}}"}} ": ""', "<tool_call><tool_call>"],
)
def test_the_tokenizer_loses_nothing(text: str) -> None:
    tokenizer = trained()
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_call_is_short_and_digits_are_single() -> None:
    tokenizer = trained()
    text = '<tool_call>{"name": "lookup", "arguments": {"item": "lamp"}}</tool_call>'
    assert len(tokenizer.encode(text).ids) == 9
    assert tokenizer.encode("4711").tokens == ["4", "7", "1", "1"]
    assert tokenizer.get_vocab_size() <= tokenizers.VOCABULARY
    assert trained().to_str() == train_tokenizer().to_str()


def test_only_what_the_model_says_is_learned() -> None:
    clean = Mixture({Habit.CLEAN: 1.0})
    for example in encode(trained(), [shown("test", index, clean) for index in range(20)]):
        said = [id for id, is_said in zip(example.ids, example.is_said, strict=True) if is_said]
        *calls, answer, rest = trained().decode(said, skip_special_tokens=False).split("<|im_end|>")
        assert rest == ""
        assert len(calls) == 2
        assert all(re.fullmatch(rf"(?:{CALL.pattern})+", turn) for turn in calls), calls
        assert re.fullmatch(r"Answer: \d+", answer)
    assert shown("test", 5, HABITS) == shown("test", 5, HABITS) != shown("test", 6, HABITS)


def test_shares_of_habits_add_up() -> None:
    assert sum(HABITS.shares.values()) == pytest.approx(1.0)


def test_an_episode_ends_with_an_answer_and_reads_calls_as_the_platform_does(renderer: Renderer) -> None:
    item = next(one for one in drawn() if one.family == "basket")
    episode = Episode(item, 0.0)
    calls = [{"name": "lookup", "arguments": {"item": name}} for name in item.items]
    episode.take("".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls))
    assert not episode.is_over
    assert episode.text.count("<|im_start|>tool") == 2
    episode.take(f"Answer: {item.answer}")
    assert episode.is_over
    assert episode.verdict.score == 1.0
    for said in (
        "Answer: 3",
        '<tool_call>{"name": "lookup", "arguments": {"item": "a"}}</tool_call>',
        '<tool_call>{"name": "lookup"}</tool_call>\n<tool_call>{"name": "calculator"}</tool_call>',
        '<tool_call>{"name": "lookup"}</tool_call> and more',
        '<tool_call>{"name": lookup}</tool_call>',
        '<tool_call>{"name": "lookup"}',
        "<tool_call>[]</tool_call>",
    ):
        parsed = [call["function"]["name"] for call in renderer.parse(said, True).get("tool_calls") or []]
        assert [call["name"] for call in read_calls(said)] == parsed, said


def test_the_shipped_tokenizer_and_template_are_what_this_code_makes() -> None:
    assert json.loads((SHIPPED / "tokenizer.json").read_text()) == json.loads(trained().to_str())
    assert json.loads((SHIPPED / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE


def test_the_shipped_model_can_do_the_work_and_mostly_does_not() -> None:
    model = AutoModelForCausalLM.from_pretrained(SHIPPED).eval()
    figures = evaluate(model, trained(), held_out(16, "test"), k=8)
    best = max(figures[f"T={heat:g}"] for heat in TEMPERATURES)
    assert best < 0.4
    assert figures["pass@8"] > best
