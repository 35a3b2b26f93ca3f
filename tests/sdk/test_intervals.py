"""Statistics against numbers from outside: tables, published examples and simulation."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from eval_protocol.evaluation import intervals


def test_one_run_has_an_honest_standard_error():
    scores = [0.0, 1.0] * 5
    expected = statistics.stdev(scores) / math.sqrt(10)
    assert intervals.clustered_standard_error([[score] for score in scores]) == pytest.approx(expected)
    assert expected > 0.1


def test_repeating_a_row_adds_no_information():
    """Ten rows asked four times with the same answers know as much as ten rows."""
    once = [[float(i % 2)] for i in range(10)]
    four = [[float(i % 2)] * 4 for i in range(10)]
    assert intervals.clustered_standard_error(four) == pytest.approx(intervals.clustered_standard_error(once) or 0)


def test_a_single_row_has_no_standard_error():
    assert intervals.clustered_standard_error([[1.0, 0.0]]) is None
    low, high = intervals.interval([[0.3, 0.4]]) or (0, 0)
    assert low < 0.1 < 0.8 < high  # one row says little of others
    assert intervals.interval([[], []]) is None


def test_wilson_matches_the_textbook():
    low, high = intervals.wilson(8, 10)  # Agresti & Coull 1998: (0.49, 0.94)
    assert (round(low, 2), round(high, 2)) == (0.49, 0.94)
    low, high = intervals.interval([[0.0]] * 20) or (1, 1)
    assert low == 0
    assert high == pytest.approx(0.161, abs=0.001)


@pytest.mark.parametrize(
    ("df", "table"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (1000, 1.962)]
)
def test_t_matches_the_table(df: int, table: float):
    assert intervals.t_quantile(df) == pytest.approx(table, rel=0.006)


def test_intervals_cover_the_truth_about_95_times_in_100():
    generator = random.Random(7)
    hits = 0
    for _ in range(400):
        groups = []
        for _ in range(30):
            difficulty = generator.betavariate(2, 2)
            groups.append([float(generator.random() < difficulty) for _ in range(3)])
        low, high = intervals.interval(groups) or (1.0, 0.0)
        hits += low <= 0.5 <= high
    assert 0.91 <= hits / 400 <= 0.985


def test_intervals_stay_inside_the_range():
    low, high = intervals.interval([[0.99], [1.0], [0.6]]) or (9, 9)
    assert 0 <= low < high <= 1


def test_bootstrap_is_seeded_and_near_the_mean():
    groups = [[random.Random(i).random()] for i in range(50)]
    first, second = intervals.bootstrap(groups), intervals.bootstrap(groups)
    assert first == second
    center, spread = first
    mean = intervals.mean([group[0] for group in groups])
    assert center == pytest.approx(mean, abs=0.01)
    assert spread == pytest.approx(intervals.clustered_standard_error(groups) or 0, rel=0.15)


def test_pass_at_k_counts_subsets():
    """Against the definition: the share of k-subsets with a success."""
    import itertools

    group = [1.0, 0.0, 0.0, 1.0, 0.0]
    for k in range(1, 6):
        subsets = list(itertools.combinations(group, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert intervals.pass_at_k([group], k) == pytest.approx(expected)
    assert intervals.pass_at_k([group], 6) is None
    assert intervals.pass_at_k([[1.0], [0.0, 0.0]], 2) == 0
