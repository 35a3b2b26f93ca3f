"""The tiny model's problems are exact, repeatable and kept apart; its tokenizer loses nothing."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from scripts.tiny_model.sums.problems import AnswerForm, Part, Problem, drill, flawed, partition, problem, solution
from scripts.tiny_model.sums.task import train_tokenizer
from scripts.tiny_model.sums.templates import HELD_OUT, TRAINING

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "platform/src/tunesmith/catalog/models/tiny-math-v1"
EXAMPLE = ROOT / "examples/gsm8k"
LINE = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def _drawn(count: int = 1500) -> list[Problem]:
    drills = [drill(random.Random(i)) for i in range(50)]
    held_out = [problem("test", i, Part.HELD_OUT, held_out_templates=True) for i in range(count // 3)]
    return [problem("test", i, Part.PRETRAIN) for i in range(count)] + held_out + drills


def _assert_exact(text: str, answer: int) -> None:
    lines = LINE.findall(text)
    assert lines
    for left, op, right, result in lines:
        a, b, c = int(left), int(right), int(result)
        assert {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": a == b * c}[op], text
    assert int(lines[-1][3]) == answer


def test_every_solution_is_exact() -> None:
    for item in _drawn():
        _assert_exact(solution(item), item.answer)
        assert solution(item).endswith(f"</think>\n<answer>{item.answer}</answer>")
        assert solution(item, AnswerForm.SENTENCE).endswith(f"</think>\nThe answer is {item.answer}.")


def test_every_template_is_drawn_and_states_its_numbers() -> None:
    items = _drawn()
    assert {i.template for i in items} == {t.name for t in TRAINING + HELD_OUT} | {"drill"}
    for item in items:
        if item.values:
            assert sorted(map(int, re.findall(r"\d+", item.question))) == sorted(item.values.values())


def test_the_same_seed_gives_the_same_problem() -> None:
    assert problem("a", 7, Part.TRAIN) == problem("a", 7, Part.TRAIN)
    assert problem("a", 7, Part.TRAIN) != problem("b", 7, Part.TRAIN)


def test_parts_and_templates_are_disjoint() -> None:
    assert not {t.name for t in TRAINING} & {t.name for t in HELD_OUT}
    assert not {text for t in TRAINING for text in t.texts} & {text for t in HELD_OUT for text in t.texts}
    for part in Part:
        assert all(partition(problem("x", i, part).question) is part for i in range(50))


def test_most_flawed_demonstrations_are_wrong() -> None:
    rng = random.Random(0)
    items = [problem("flaws", i, Part.PRETRAIN) for i in range(400)]
    right = sum(flawed(item, AnswerForm.TAGGED, rng).endswith(f"<answer>{item.answer}</answer>") for item in items)
    assert right < 0.05 * len(items)


@pytest.mark.parametrize(
    ("name", "rows", "part"),
    [
        ("gsm8k_sample.jsonl", 800, Part.TRAIN),
        ("gsm8k_heldout.jsonl", 1000, Part.HELD_OUT),
        ("gsm8k_heldout_templates.jsonl", 600, Part.HELD_OUT),
    ],
)
def test_example_rows_are_exact_and_never_pretrained_on(name: str, rows: int, part: Part) -> None:
    found = [json.loads(line) for line in (EXAMPLE / name).read_text().splitlines()]
    assert len({row["messages"][-2]["content"] for row in found}) == rows
    for row in found:
        assert partition(row["messages"][-2]["content"]) is part
        assert row["messages"][-1] == {"role": "assistant", "content": row["ground_truth"]}
        answer = re.search(r"<answer>(\d+)</answer>$", row["ground_truth"])
        assert answer
        _assert_exact(row["ground_truth"], int(answer.group(1)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "plain",
        "héllo Straße",
        "漢字 かな 한국어",
        "🙂👩‍👩‍👧",
        "e\u0301 \u00e9",
        "\r\n\t  x \n\n",
        "\x00\x7f\u2028\ufeff",
        "a<|im_end|>b<think>",
    ],
)
def test_any_text_comes_back_unchanged(text: str) -> None:
    trained = _bundled()
    assert trained.decode(trained.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_random_unicode_comes_back_unchanged() -> None:
    trained, rng = _bundled(), random.Random(0)
    for _ in range(200):
        codes = [c for c in (rng.randrange(0x110000) for _ in range(40)) if not 0xD800 <= c < 0xE000]
        text = "".join(map(chr, codes))
        assert trained.decode(trained.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_digits_are_single_tokens_and_the_bundled_tokenizer_is_the_trained_one() -> None:
    trained = _bundled()
    assert trained.encode("1024").tokens == ["1", "0", "2", "4"]
    assert trained.to_str() == train_tokenizer().to_str()


def _bundled() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))
