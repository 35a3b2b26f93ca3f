"""Advantages against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from tunesmith.runs.advantages import batch_advantages


def test_scores_are_centred_in_their_group_and_scaled_over_the_batch():
    # Group 0: mean 0.5, deviations +-0.5. Group 1: mean 0.25, deviations -0.25, -0.25, 0.5 -> mean of squares below.
    scores = [1.0, 0.0, 0.0, 0.0, 0.75]
    deviation = math.sqrt((0.25 + 0.25 + 0.0625 + 0.0625 + 0.25) / 5)
    expected = [0.5 / deviation, -0.5 / deviation, -0.25 / deviation, -0.25 / deviation, 0.5 / deviation]
    assert batch_advantages(scores, [0, 0, 1, 1, 1]) == pytest.approx(expected, rel=1e-12)


def test_a_constant_group_gets_exactly_zero_and_does_not_count_in_the_scale():
    varied = batch_advantages([1.0, 0.0], [3, 3])
    mixed = batch_advantages([0.1, 1.0, 0.1, 0.0, 0.1], [7, 3, 7, 3, 7])
    assert varied == [1.0, -1.0]
    assert mixed == [0.0, 1.0, 0.0, -1.0, 0.0]


@pytest.mark.parametrize("scores", [[0.1, 0.1, 0.1], [0.7], []])
def test_no_variance_means_no_advantage(scores: list[float]):
    assert batch_advantages(scores, [0] * len(scores)) == [0.0] * len(scores)


def test_the_scale_of_the_scores_does_not_matter():
    scores, groups = [0.2, 0.9, 0.4, 0.0, 0.5], [0, 0, 0, 1, 1]
    assert batch_advantages([s / 8 for s in scores], groups) == pytest.approx(batch_advantages(scores, groups))
