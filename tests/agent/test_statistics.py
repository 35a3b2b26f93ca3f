"""Statistics against tables and simulation: intervals cover, and nothing is found where there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tunesmith.agent import statistics
from tunesmith.agent.statistics import compare_losses, compare_scores, holm, loss_interval, score_interval
from tunesmith.runs import paired


@dataclass(frozen=True)
class Row:
    nats: float
    tokens: int = 10
    bytes: int = 0


def test_a_share_has_wilsons_interval():
    found = score_interval([1.0] * 8 + [0.0, None, 0.0])  # Agresti & Coull 1998: (0.49, 0.94)
    assert (round(found.low, 2), round(found.high, 2), found.mean, found.rows, found.invalid) == (
        0.49,
        0.94,
        0.8,
        10,
        1,
    )


def test_without_rows_nothing_is_known():
    found = score_interval([None, None])
    assert (found.low, found.high, found.rows, found.invalid) == (0.0, 1.0, 0, 2)
    assert compare_scores([None, 1.0], [1.0, None]).p_value == 1.0


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_few_rows_try_every_sign():
    found = compare_scores([0.0] * 5, [1.0] * 5)
    assert found.p_value == 1 / 2**5
    assert compare_scores([0.0, 1.0], [1.0, 0.0]).p_value == 1.0


def test_equal_rows_differ_in_nothing():
    scores = [0.2, 0.9, None, 0.4] * 10
    same = compare_scores(scores, scores)
    assert (same.difference.mean, same.p_value) == (0, 1.0)
    assert -0.12 < same.difference.low < 0 < same.difference.high < 0.12  # thirty rows are not all rows
    losses = [Row(float(index)) for index in range(40)]
    assert compare_losses(losses, losses).p_value == 1.0


def test_a_loss_counts_rows_by_their_tokens():
    rows = [Row(10.0, 100), Row(10.0, 1)]
    assert loss_interval(rows).mean == pytest.approx(20 / 101)
    better = compare_losses(rows, [Row(0.0, 100), Row(10.0, 1)])
    assert better.difference.mean == pytest.approx(-10 / 101)


def test_bits_per_byte():
    assert statistics.bits_per_byte([Row(np.log(2) * 8, 1, 4), Row(0.0, 1, 4)]) == pytest.approx(1.0)
    assert statistics.bits_per_byte([Row(1.0)]) is None


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="different tokenizers"):
        compare_losses([Row(1.0, 3)], [Row(1.0, 4)])
    with pytest.raises(ValueError, match="2 and 1 scores"):
        compare_scores([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no row has a trained token"):
        loss_interval([Row(0.0, 0)])


def test_the_same_rows_give_the_same_figures():
    values = list(np.random.default_rng(0).random(60))
    assert score_interval(values) == score_interval(values)
    assert compare_scores(values, values[::-1]) == compare_scores(values, values[::-1])


@pytest.mark.parametrize("rows", [8, 40])
def test_intervals_of_losses_cover_the_truth_95_times_in_100(rows: int, monkeypatch):
    monkeypatch.setattr(statistics, "BOOTSTRAPS", 1000)
    generator = np.random.default_rng(rows)
    tokens = generator.integers(5, 60, (400, rows))
    losses = generator.gamma(4.0, 0.25, (400, rows)) * tokens  # 1 nat a token
    hits = 0
    for nats, counts in zip(losses, tokens, strict=True):
        found = loss_interval([Row(float(n), int(t)) for n, t in zip(nats, counts, strict=True)])
        hits += found.low <= 1.0 <= found.high
    assert 0.90 <= hits / 400 <= 0.985


def test_p_values_find_an_effect_as_often_as_they_should(monkeypatch):
    monkeypatch.setattr(paired, "FLIPS", 1000)
    generator = np.random.default_rng(3)
    found = {0.0: 0, 0.5: 0}
    for effect in found:
        for _ in range(300):
            first = generator.normal(0.0, 1.0, 60)
            second = first + generator.normal(effect, 1.0, 60)
            found[effect] += compare_scores(list(first), list(second)).p_value <= 0.05
    assert found[0.0] <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)
    assert found[0.5] >= 280  # power of a paired t-test there: 0.97
