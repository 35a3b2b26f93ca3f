"""Labels of rows, their balance, accuracy label by label, and what is confused with what."""

from __future__ import annotations

import pytest
from tunesmith.agent.labels import NO_LABEL, balance, classify, label_of

from tests.agent.datasets import Row, calling, row


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (row(1, "spam"), "spam"),
        (row(1, "<think>\nhm\n</think>\n spam  mail "), "spam mail"),
        (row(1, "spam", ground_truth="ham"), "ham"),
        (row(1, "Hm.\n<answer>spam</answer>"), "spam"),
        (row(1, "spam", ground_truth=["ham"]), "ham"),
        (row(1, ground_truth=["b", "a", "b"]), "a, b"),
        (row(1, ground_truth=3), "3"),
        (row(1), None),
        (row(1, ""), None),
        (calling(1, "f", "{}"), None),
    ],
)
def test_labels_come_from_the_ground_truth_or_the_last_turn(given: Row, label: str | None) -> None:
    assert label_of(given) == label


def test_balance_counts_and_flags_from_50_to_1_on() -> None:
    found = balance(["a"] * 49 + ["b"] + [None])
    assert (found.counts, found.ratio, found.is_imbalanced, found.mitigations) == ({"a": 49, "b": 1}, 49.0, False, [])
    found = balance(["b"] * 2 + ["a"] * 100)
    assert (list(found.counts), found.ratio, found.is_imbalanced) == (["a", "b"], 50.0, True)
    assert "'b', has 2" in found.mitigations[0]
    assert balance([]).ratio == 1.0


def test_accuracy_and_confusion() -> None:
    said = [
        ("pos", "pos"),
        ("pos", "NEG."),
        ("pos", "It is pos, I think"),
        ("neg", "neg"),
        ("neg", "what?"),
        ("mid", None),
    ]
    found = classify(said)
    assert (found.rows, found.right, found.accuracy) == (6, 3, 0.5)
    assert {name: (figures.rows, figures.right) for name, figures in found.labels.items()} == {
        "pos": (3, 2),
        "neg": (2, 1),
        "mid": (1, 0),
    }
    assert found.confusion == {"pos": {"pos": 2, "neg": 1}, "neg": {"neg": 1, NO_LABEL: 1}, "mid": {NO_LABEL: 1}}
    assert found.summary().startswith("3 of 6 right (50.0%); commonest: pos taken for neg (1)")
    assert found.table().splitlines() == [
        "| gold \\ answer | pos | neg | mid | (none of the labels) | accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
        "| pos | 2 | 1 | 0 | 0 | 66.7% |",
        "| neg | 0 | 1 | 0 | 1 | 50.0% |",
        "| mid | 0 | 0 | 0 | 1 | 0.0% |",
    ]


def test_a_label_that_no_row_has_can_be_answered_and_is_wrong() -> None:
    assert classify([("a|b", "c")], labels=["c"]).confusion == {"a|b": {"c": 1}}
    assert classify([("a|b", "c")]).confusion == {"a|b": {NO_LABEL: 1}}
    assert "a\\|b" in classify([("a|b", "c")]).table()


def test_marked_answers_are_read_where_they_stand() -> None:
    said = ["A or B? <answer>A</answer>", "<think>B</think>#### A", r"\boxed{B}", "A"]
    assert [next(iter(classify([("A", text)], ["A", "B"]).confusion["A"])) for text in said] == ["A", "A", "B", "A"]


def test_right_in_another_spelling_is_right() -> None:
    assert classify([("Yes", "yes"), ("yes", "YES")]).accuracy == 1.0
