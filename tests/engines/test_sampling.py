"""Sampling: the right distribution, the right filters, and noise that depends on nothing but seed, index and position."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tunesmith.engines.sampling import BatchSettings, RowSettings, draw

PLAIN = RowSettings(seed=1, index=0, temperature=1.0, top_p=1.0, top_k=0, top_logprobs=0)


def frequencies(logits: torch.Tensor, row: RowSettings, draws: int) -> Counter[int]:
    settings = BatchSettings([replace(row, seed=seed) for seed in range(draws)])
    return Counter(draw(logits.expand(draws, -1), settings, [0] * draws).token_ids)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_distribution(temperature: float) -> None:
    logits = torch.linspace(-2, 2, 12)
    draws = 20_000
    found = frequencies(logits, replace(PLAIN, temperature=temperature), draws)
    expected = torch.softmax(logits.double() / temperature, -1) * draws
    chi_square = sum((found[i] - expected[i].item()) ** 2 / expected[i].item() for i in range(12))
    assert chi_square < 36.7, (
        "11 degrees of freedom: exceeded once in 8,000 such tests by chance, and the seeds are fixed"
    )


def test_uniforms_fill_the_unit_interval_over_seeds_indices_and_positions() -> None:
    by_seed = BatchSettings([replace(PLAIN, seed=seed) for seed in range(5000)]).uniforms([0] * 5000)
    by_index = BatchSettings([replace(PLAIN, index=index) for index in range(5000)]).uniforms([0] * 5000)
    by_position = BatchSettings([PLAIN] * 5000).uniforms(range(5000))
    for uniforms in (by_seed, by_index, by_position):
        assert 0 <= uniforms.min() < 0.002
        assert 0.998 < uniforms.max() < 1
        assert len(set(uniforms.tolist())) == 5000
        assert abs(uniforms.mean().item() - 0.5) < 4 / math.sqrt(12 * 5000)
    together = np.corrcoef([by_seed.numpy(), by_index.numpy(), by_position.numpy()])
    assert np.abs(together - np.eye(3)).max() < 0.06


def test_noise_is_a_pure_function_of_seed_index_and_position() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    rows = [replace(PLAIN, seed=2**64 - 1 - i, index=i, temperature=0.5 + i / 4, top_k=i) for i in range(6)]
    positions = [0, 3, 1, 900, 2, 7]
    together = draw(logits, BatchSettings(rows), positions)
    for i in range(6):
        alone = draw(logits[i : i + 1], BatchSettings(rows[i : i + 1]), positions[i : i + 1])
        assert alone.token_ids == together.token_ids[i : i + 1]
        assert alone.logprobs == together.logprobs[i : i + 1]
        assert alone.model_logprobs == together.model_logprobs[i : i + 1]
    moved = [draw(logits, BatchSettings(rows), [p + k for p in positions]).token_ids for k in range(1, 5)]
    assert all(ids != together.token_ids for ids in moved)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, {0, 1, 2, 3, 4}),
        (3, 1.0, {0, 1, 2}),
        (1, 1.0, {0}),
        (99, 1.0, {0, 1, 2, 3, 4}),
        (0, 0.41, {0, 1}),  # .4 does not reach .41, .4 + .3 does
        (0, 0.39, {0}),
        (0, 0.01, {0}),
        (2, 0.6, {0, 1}),  # top_k first: .4 / .7 = .57 does not reach .6
        (2, 0.5, {0}),  # ... and reaches .5, which .4 of the whole would not
    ],
)
def test_top_k_then_top_p(top_k: int, top_p: float, kept: set[int]) -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    found = frequencies(probabilities.log(), replace(PLAIN, top_k=top_k, top_p=top_p), 3000)
    assert set(found) == kept
    total = sum(probabilities[i].item() for i in kept)
    for i in kept:
        share = probabilities[i].item() / total
        assert abs(found[i] / 3000 - share) < 4 * math.sqrt(share * (1 - share) / 3000) + 1e-9


def test_ties_at_the_border_keep_exactly_k() -> None:
    assert set(frequencies(torch.zeros(10), replace(PLAIN, top_k=4), 500)) == {0, 1, 2, 3}


def test_filters_of_one_row_leave_the_others_alone() -> None:
    logits = torch.linspace(0, 1, 30).repeat(3, 1)
    plain = BatchSettings([replace(PLAIN, seed=s) for s in range(3)])
    mixed = BatchSettings([PLAIN, replace(PLAIN, seed=1, top_k=1), replace(PLAIN, seed=2)])
    for position in range(20):
        expected = draw(logits, plain, [position] * 3)
        found = draw(logits, mixed, [position] * 3)
        assert found.token_ids[2] == expected.token_ids[2]
        assert found.token_ids[1] == 29
        assert found.logprobs[1] == torch.log_softmax(logits[1], -1)[29].item(), "recorded before top_k"


def test_greedy_rows_among_sampled_ones_record_temperature_one() -> None:
    logits = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    rows = [replace(PLAIN, temperature=t, top_logprobs=k) for t, k in ((0, 2), (0.5, 0), (0, 0), (1.0, 5))]
    drawn = draw(logits, BatchSettings(rows), [0] * 4)
    for i in (0, 2):
        assert drawn.token_ids[i] == logits[i].argmax().item()
        assert drawn.logprobs[i] == drawn.model_logprobs[i] == torch.log_softmax(logits[i], -1).max().item()
    assert drawn.logprobs[1] == torch.log_softmax(logits[1] / 0.5, -1)[drawn.token_ids[1]].item()
    assert drawn.top is not None
    assert [len(top) for top in drawn.top] == [2, 0, 0, 5]
    assert drawn.top[0][0] == (drawn.token_ids[0], drawn.model_logprobs[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_rows_without_a_distribution_are_told(temperature: float, broken: float) -> None:
    logits = torch.zeros(3, 8)
    logits[1, 3] = broken
    drawn = draw(logits, BatchSettings([replace(PLAIN, temperature=temperature)] * 3), [0] * 3)
    assert drawn.valid == [True, False, True]


def test_impossible_ids_are_never_drawn() -> None:
    logits = torch.full((9,), -math.inf)
    logits[[2, 5]] = torch.tensor([0.0, 1.0])
    assert set(frequencies(logits, PLAIN, 2000)) == {2, 5}
