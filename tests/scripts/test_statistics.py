"""One statistics in both distributions: the same figures from the same scores, covering what they should. Seeded, so never by chance."""

from __future__ import annotations

import random

import pytest
from eval_protocol.evaluation import intervals as of_sdk
from eval_protocol.evaluation.paired import paired as paired_of_sdk
from tunesmith.agent.statistics import compare_scores, score_interval
from tunesmith.orchestrator.evaluation import interval as of_runs
from tunesmith.runs import intervals as of_platform
from tunesmith.runs.paired import paired as paired_of_platform

from scripts.check_statistics import POPULATIONS, coverage, false_positives
from scripts.held_out import Score, difference, score_of
from scripts.held_out import interval as of_demos

ONE_A_ROW = [
    [1.0, 0.0, 1.0, 1.0, 0.0, 1.0],
    [0.0] * 7,
    [0.4] * 3,
    [0.25],
    [0.1, 0.9, 0.35, 0.8, 0.81, 0.02],
    [0.0, 0.0, 0.0, 0.05],
]
BY_ROW = [[[1.0, 0.0, 1.0], [0.0], [], [1.0, 1.0]], [[0.3, 0.5], [0.1, 0.2, 0.1], [0.9]], [[1.0, 1.0], [1.0]]]


@pytest.mark.parametrize("scores", ONE_A_ROW)
def test_every_place_gives_the_same_interval(scores: list[float]):
    expected = of_sdk.interval([[score] for score in scores])
    assert expected is not None
    found = score_interval(scores)
    assert (found.low, found.high) == of_runs(scores) == of_demos(scores) == expected
    assert 0 <= expected[0] <= sum(scores) / len(scores) <= expected[1] <= 1
    assert expected[0] < expected[1]


@pytest.mark.parametrize("groups", BY_ROW)
def test_both_distributions_cluster_alike(groups: list[list[float]]):
    assert of_sdk.interval(groups) == of_platform.interval(groups)
    assert of_sdk.clustered_standard_error(groups) == of_platform.clustered_standard_error(groups)
    assert of_sdk.pass_at_k(groups, 2) == of_platform.pass_at_k(groups, 2)


@pytest.mark.parametrize("pairs", [1, 6, 40, 1500])
@pytest.mark.parametrize("binary", [True, False])
def test_both_distributions_compare_alike(pairs: int, binary: bool):
    generator = random.Random(pairs)
    first, second = (
        [float(generator.random() < 0.5) if binary else generator.random() for _ in range(pairs)] for _ in range(2)
    )
    sdk, platform = paired_of_sdk(first, second), paired_of_platform(first, second)
    assert (sdk.difference, sdk.low, sdk.high, sdk.p, sdk.test) == (
        platform.difference,
        platform.low,
        platform.high,
        platform.p,
        platform.test,
    )
    found = compare_scores([*first, None], [*second, 1.0])
    assert (found.difference.mean, found.difference.low, found.p_value) == (sdk.difference, sdk.low, sdk.p)
    assert -1 <= sdk.low <= sdk.difference <= sdk.high <= 1


@pytest.mark.parametrize("rows", [5, 20])
@pytest.mark.parametrize("scores", POPULATIONS, ids=lambda each: each.name)
def test_intervals_hold_the_truth(scores, rows: int):
    assert coverage(scores, rows, simulations=300) >= 0.9


@pytest.mark.parametrize("scores", [POPULATIONS[1], POPULATIONS[2]], ids=lambda each: each.name)
def test_equal_models_are_seldom_called_different(scores):
    assert 0.02 <= false_positives(scores) <= 0.08


def answered(scores: dict[str, float], invalid: tuple[str, ...] = ()) -> Score:
    """A model's score as `python evaluation.py` writes its rows, in any order."""
    rows = [
        {
            "input_metadata": {"row_id": row},
            "evaluation_result": {"score": score, "is_score_valid": row not in invalid},
        }
        for row, score in sorted(scores.items(), key=lambda item: item[0][::-1])
    ]
    return score_of(1.0, rows)


def test_a_gain_on_the_same_rows_is_paired():
    """Hard rows are hard for both: their spread is no doubt about the gain."""
    chance = random.Random(7)
    before = {f"row-{n}": float(chance.random() < 0.5) for n in range(200)}
    after = {row: 1.0 if n % 10 == 0 else score for n, (row, score) in enumerate(before.items())}
    gain, low, high = difference(answered(after), answered(before))
    expected = paired_of_platform(list(before.values()), list(after.values()))
    assert (gain, low, high) == (expected.difference, expected.low, expected.high)
    elsewhere = {f"other {row}": score for row, score in after.items()}
    unpaired = difference(answered(elsewhere), answered(before))
    assert unpaired[0] == pytest.approx(gain)
    assert unpaired[1] < 0 < low, "the same means of different rows would be no sign of a gain"


def test_a_gain_counts_the_rows_that_both_answered_with_a_valid_score():
    before = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 0.0}
    after = {"a": 1.0, "b": 0.0, "c": 1.0, "e": 1.0}
    gain, low, high = difference(answered(after, invalid=("b",)), answered(before))
    assert gain == 0.5  # a and c
    assert low < gain < high
