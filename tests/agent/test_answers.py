"""What kind of answer the data has: recognised at 95 % of the rows, with what does not fit, and never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.agent.answers import AnswerKind, Marker, reader, recognise
from tunesmith.agent.json_schemas import infer
from tunesmith.agent.rows import answer_of, gold_of
from tunesmith.agent.templates import box, json_schema, number
from tunesmith.agent.templates import label as label_template

from tests.agent.datasets import datasets, row

MARKERS = {
    "number in tags": Marker.TAGS,
    "number in a box": Marker.BOX,
    "number behind hashes": Marker.HASHES,
    "number after words": Marker.ANSWER_IS,
    "label in tags": Marker.TAGS,
}


@pytest.mark.parametrize("name", datasets())
def test_each_kind_is_recognised(name: str) -> None:
    rows = datasets()[name]
    found = recognise(rows)
    assert (found.kind.value, found.marker) == (name.split()[0], MARKERS.get(name, Marker.WHOLE)), found
    assert (found.confidence, found.rows, found.misfits) == (1.0, len(rows), [])
    read = reader(found)
    for each in rows:
        turn = answer_of(each)
        assert turn is not None
        assert read.same(read.answer(turn), read.gold(gold_of(each)))


@pytest.mark.parametrize("name", datasets())
def test_rows_without_a_turn_are_recognised_by_their_ground_truth(name: str) -> None:
    rows = [{**each, "messages": each["messages"][:1], "ground_truth": gold_of(each)} for each in datasets()[name]]
    assert recognise(rows).kind.value == name.split()[0]


def test_labels_are_listed_the_commonest_first_in_their_commonest_spelling() -> None:
    found = recognise([row(i, text) for i, text in enumerate(["no", "Yes", "yes", "yes.", "no", "yes", "yes"] * 3)])
    assert (found.kind, found.labels) == (AnswerKind.LABEL, ["yes", "no"])


def test_ratings_are_numbers_unless_labels_are_wanted() -> None:
    rows = [row(i, str(i % 5 + 1)) for i in range(50)]
    assert recognise(rows).kind is AnswerKind.NUMBER
    assert recognise(rows, labels_wanted=True).kind is AnswerKind.LABEL


def test_a_few_misfits_are_shown_and_more_are_too_many() -> None:
    rows = [row(i, str(i)) for i in range(40)]
    rows[7] = row(7, "I do not know, sorry, I am only a text.")
    found = recognise(rows)
    assert found.kind is AnswerKind.NUMBER
    assert (found.confidence, [example.line for example in found.misfits]) == (39 / 40, [8])
    rows[8] = rows[9] = rows[7]
    found = recognise(rows)
    assert found.kind is AnswerKind.NONE
    assert found.reason.startswith("Only 92% of the answers are numbers")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(i, f"Dear friend {i}, thank you for the letter that you wrote to me.") for i in range(20)], "free text"),
        ([row(i, "42") for i in range(20)], "every row has the same answer"),
        ([row(i) for i in range(20)], "20 of 20 rows have no answer"),
        ([row(i, str(i)) for i in range(3)], "too few"),
        (
            [row(i, f"<answer>{i}</answer>" if i % 5 else f"{i}") for i in range(20)],
            "80% of the answers stand in <answer> tags",
        ),
        (
            [row(i, "well, no", ground_truth=i) for i in range(20)],
            "does not give the answer of `ground_truth` in 20 of 20",
        ),
        ([row(i, f"{i}", ground_truth=i + 1) for i in range(20)], "does not give the answer of `ground_truth`"),
        (datasets()["tool_calls"] + [row(i, "text") for i in range(8)], "50% of the rows end in tool calls"),
        ([row(i, f"0{i}7") for i in range(20)], None),
    ],
)
def test_what_supports_no_evaluator_says_why(rows: list[dict[str, Any]], reason: str | None) -> None:
    found = recognise(rows)
    if reason is None:
        assert found.kind is AnswerKind.EXACT, "codes with leading zeros are no numbers"
    else:
        assert found.kind is AnswerKind.NONE
        assert reason.casefold() in found.reason.casefold()


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("1,234,567", "1234567"),
        ("$1,000.50", "1000.5 dollars"),
        ("-$5", "$-5"),
        ("\u22127", "-7"),
        ("**12**", "12."),
        ("1/3", "0.33333334"),
        ("3 apples", "3 red apples"),
        ("10 %", "10"),
        ("2.5e3", "2500"),
        ("$42$", "42"),
        (".5", "0.5"),
    ],
)
def test_numbers_that_are_the_same(text: str, same_as: str) -> None:
    one, other = number.value_of(text), number.value_of(same_as)
    assert one is not None
    assert other is not None
    assert number.same(one, other)
    assert number.same(other, one)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("5 km", "5 m"),
        ("5", "-5"),
        ("10000001", "10000002"),
        ("0.1", "0.10001"),
        ("1,234", "1.234"),
        ("0", "0.0000001"),
    ],
)
def test_numbers_that_differ(text: str, other: str) -> None:
    one, two = number.value_of(text), number.value_of(other)
    assert one is not None
    assert two is not None
    assert not number.same(one, two)


@pytest.mark.parametrize(
    "text", ["", "007", "1,23", "12:30", "1.2.3", "3-4", "--5", "-$-5", "1e999", "9" * 50, "five", "2 3", "1/0"]
)
def test_what_is_no_number(text: str) -> None:
    assert number.value_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("so 3, then 4.", 4), ("1,200 or -7!", -7), ("x2 and 3.4.5", None), ("v1.2", None), ("3-5", 5)],
)
def test_the_last_number_of_a_text(text: str, value: int | None) -> None:
    found = number.last_number(text)
    assert (found and found[0]) == value


def test_boxes_nest() -> None:
    assert box.marked(r"\boxed{1} \boxed{\text{a}\{b\}{c}}") == r"a\{b\}{c}"
    assert box.marked(r"\boxed{1") is None
    assert box.marked(r"\boxed{\dfrac{1}{2}\,\text{cm}}") == "1/2 cm"


def test_a_sentence_that_names_one_label_is_that_label() -> None:
    labels = ["refund", "refund request", "other"]
    assert label_template.value_of("It is a Refund   Request.", labels) == "refund request"
    assert label_template.value_of("refund or other", labels) is None
    assert label_template.value_of("a thing", ["a", "bcd"]) is None


def test_schemas_are_inferred_and_fit_what_they_were_inferred_from() -> None:
    values = [
        {"id": i, "x": 0.5 if i else 1, "kind": "ab"[i % 2], "note": None if i else "n", **({"o": []} if i else {})}
        for i in range(20)
    ]
    schema = infer(values)
    assert schema["required"] == ["id", "x", "kind", "note"]
    assert schema["properties"]["x"]["type"] == "number"
    assert schema["properties"]["kind"] == {"type": "string", "enum": ["a", "b"]}
    assert schema["properties"]["note"]["type"] == ["null", "string"]
    assert [json_schema.problems(value, schema) for value in values] == [[]] * 20
    assert json_schema.problems({"id": True, "x": 1, "kind": "c"}, schema) == [
        "the answer lacks note",
        "the answer.id is not of type integer",
        "the answer.kind is none of the 2 known values",
    ]
