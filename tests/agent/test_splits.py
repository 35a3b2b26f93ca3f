"""Splits: the same for the same data, no prompt in two of them, sizes as documented."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tunesmith.agent.pairs import make_pairs
from tunesmith.agent.plan import Method
from tunesmith.agent.rows import prompt_key
from tunesmith.agent.splits import LEAST, LEAST_PROMPTS, smallest_labels, split
from tunesmith.errors import InvalidArgument


def row(prompt: object, answer: object = "a") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"{prompt}"}, {"role": "assistant", "content": f"{answer}"}]}


def rows(count: int) -> list[dict[str, Any]]:
    return [row(f"question {i}", i) for i in range(count)]


def prompts(of: list[dict[str, Any]], indexes: list[int]) -> set[int]:
    return {prompt_key(of[index]) for index in indexes}


@pytest.mark.parametrize(
    ("count", "method", "held_out"),
    [
        (30, Method.SFT, 6),
        (100, Method.SFT, 20),
        (200, Method.SFT, 30),
        (1000, Method.SFT, 100),
        (5000, Method.SFT, 300),
        (1000, Method.DPO, 100),
        (5000, Method.CLASSIFICATION, 500),
    ],
)
def test_sizes(count: int, method: Method, held_out: int) -> None:
    splits = split(rows(count), method=method)
    assert (len(splits.select), len(splits.report)) == (held_out, held_out)
    assert len(splits.train) == count - 2 * held_out
    assert len(splits.tune) == min(1000, len(splits.train))
    assert sorted([*splits.full, *splits.report]) == list(range(count))
    assert f"{held_out} are kept for the report" in splits.notes[0]


def test_the_subsample_can_be_set_and_switched_off() -> None:
    data = rows(1600)
    assert len(split(data).tune) == 1000
    assert len(split(data, subsample=500).tune) == 500
    assert split(data, subsample=0).tune == split(data).train
    assert set(split(data, subsample=500).tune) <= set(split(data).train)
    assert split(data, subsample=500).tune != split(data).train[:500], "not just the first rows"


@settings(deadline=None, max_examples=30, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 60), min_size=150, max_size=300), st.integers(0, 5))
def test_no_prompt_is_in_two_splits(questions: list[int], seed: int) -> None:
    data = [row(f"Question  {q}" if i % 2 else f"question {q} ", i) for i, q in enumerate(questions)]
    try:
        splits = split(data, seed=seed)
    except InvalidArgument:
        assert len(set(questions)) < LEAST_PROMPTS + 10
        return
    parts = [prompts(data, part) for part in (splits.train, splits.select, splits.report)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert sorted([*splits.train, *splits.select, *splits.report]) == list(range(len(data)))
    assert min(len(parts[1]), len(parts[2])) >= LEAST
    assert splits == split(data, seed=seed)


def test_the_seed_decides_and_the_order_of_the_rows_does_not() -> None:
    data = rows(300)
    mixed = random.Random(1).sample(data, len(data))
    assert prompts(data, split(data).report) == prompts(mixed, split(mixed).report)
    assert split(data, seed=1).report != split(data, seed=2).report


def test_labels_are_spread_in_proportion() -> None:
    data = rows(500)
    labels = ["rare" if i % 50 == 0 else "often" if i % 5 else "some" for i in range(500)]
    splits = split(data, method=Method.CLASSIFICATION, labels=labels)
    assert Counter(labels[i] for i in splits.select) == {"often": 40, "some": 9, "rare": 1}
    assert Counter(labels[i] for i in splits.report) == {"often": 40, "some": 9, "rare": 1}


def test_a_label_of_one_row_trains() -> None:
    labels = ["alone", *(["a", "b"] * 50)[:99]]
    splits = split(rows(100), method=Method.CLASSIFICATION, labels=labels)
    assert 0 in splits.train
    assert len(splits.select) == 10
    assert smallest_labels(labels) == ["alone"]


def test_a_prompt_that_fills_the_dataset_trains() -> None:
    data = [row("always the same", i) for i in range(100)] + rows(100)
    splits = split(data)
    assert set(range(100)) <= set(splits.train)


def test_a_given_evaluation_dataset_selects_and_if_large_reports() -> None:
    data, given_rows = rows(200), [row(f"other {i}") for i in range(80)]
    splits = split(data, evaluation_rows=given_rows)
    assert (len(splits.select_given), len(splits.report_given)) == (40, 40)
    assert not set(splits.select_given) & set(splits.report_given)
    assert splits.train == splits.full == list(range(200))
    small = split(data, evaluation_rows=given_rows[:20])
    assert (len(small.select_given), small.report_given, len(small.report)) == (20, [], 30)
    assert len(small.full) == 170


def test_what_the_evaluation_dataset_asks_is_not_trained() -> None:
    data = rows(200)
    splits = split(data, evaluation_rows=[row(f"QUESTION {i} ") for i in range(70)])
    assert splits.dropped == list(range(70))
    assert splits.train == list(range(70, 200))
    assert "70 rows of the dataset ask what the evaluation dataset asks" in splits.notes[1]


@pytest.mark.parametrize("data", [[], rows(29), [row("same", i) for i in range(500)]])
def test_too_small_a_dataset_is_refused_with_the_least_number(data: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidArgument, match=f"at least {LEAST_PROMPTS} rows with different prompts"):
        split(data)


def test_a_useless_evaluation_dataset_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="5 different prompts"):
        split(rows(100), evaluation_rows=rows(5))
    with pytest.raises(InvalidArgument, match="nothing is left to train on"):
        split(rows(100), evaluation_rows=rows(100))


def test_pairs_prefer_the_strong_model_and_leave_out_what_is_equal() -> None:
    data = [{**row(i, "gold"), "tools": [{"type": "function"}]} for i in range(4)]
    pairs = make_pairs(data, ["good", "same", "", "fine"], ["bad", " same", "bad", None])
    assert (pairs.equal, pairs.missing, pairs.lines) == (1, 2, [1])
    assert pairs.rows == [
        {
            "input": {"messages": data[0]["messages"][:1], "tools": data[0]["tools"]},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}],
        }
    ]
    assert pairs.summary() == (
        "1 preference pairs from 4 prompts; left out: 1 where both answers are equal, 2 without an answer of both models."
    )


def test_pairs_need_answers_that_differ() -> None:
    with pytest.raises(InvalidArgument, match="Choose two models that answer differently"):
        make_pairs(rows(2), ["a", "b"], ["a", "b"])
    with pytest.raises(InvalidArgument, match="each prompt needs one of each"):
        make_pairs(rows(2), ["a"], ["a", "b"])


def test_pairs_are_split_by_prompt() -> None:
    data = rows(100)
    pairs = make_pairs(data, ["good"] * 100, ["bad"] * 100).rows
    splits = split(pairs, method=Method.DPO)
    assert (len(splits.train), len(splits.select), len(splits.report)) == (80, 10, 10)
