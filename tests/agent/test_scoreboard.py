"""Who wins, who does not, and why: on made-up rows, and under the hypothesis that nothing was learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tunesmith.agent import statistics
from tunesmith.agent.document import Run
from tunesmith.agent.plan import Candidate
from tunesmith.agent.scoreboard import Measured, compare_held_out, judge
from tunesmith.agent.tables import scoreboard_table
from tunesmith.runs import paired

BASE = "accounts/tunesmith/models/tiny-math-v1"
OTHER = "accounts/tunesmith/models/tiny-svg-v1"


@dataclass(frozen=True)
class Row:
    nats: float
    tokens: int = 10
    bytes: int = 20


def rows(values, tokens: int = 10) -> list[Row]:
    return [Row(float(value), tokens) for value in values]


def one(losses=(), scores=(), *, base: str = BASE, rank: int = 8, seconds: float | None = None, failed: str = ""):
    run = Run(job="accounts/local/supervisedFineTuningJobs/x", seconds=seconds, tokens=100)
    return Measured(Candidate(base_model=base, lora_rank=rank, learning_rate=1e-4), losses, scores, run, failed)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def test_the_clear_winner_is_found_and_explained(generator):
    base = generator.gamma(5, 2, 80)
    bases = [Measured.of_base(BASE, rows(base))]
    board = judge(bases, [one(rows(base * 0.9)), one(rows(base * 0.5)), one(rows(base * 1.2))], "loss")
    assert (board.winner, board.ranking) == (2, [2, 1, 3])
    assert [result.number for result in board.results] == [0, 1, 2, 3]
    assert [result.better for result in board.results] == [None, True, True, False]
    assert board.results[3].p_value is not None
    assert board.results[3].p_value < 0.05  # worse, and surely so
    assert board.reason.startswith(
        "Candidate 2 (tiny-math-v1, rank 8, learning rate 0.0001) has the lowest validation loss"
    )
    assert "It is also ahead of the next best, candidate 1" in board.reason


def test_candidates_that_learned_nothing_yield_no_winner(generator):
    base = rows(generator.gamma(5, 2, 50))
    for metric, same in (("loss", {"losses": base}), ("score", {"scores": [1.0, 0.0, 0.5, None] * 12})):
        board = judge([Measured.of_base(BASE, **same)], [one(**same) for _ in range(6)], metric)
        assert board.winner == 0
        assert {result.p_value for result in board.results[1:]} == {1.0}
        assert board.reason.startswith("No candidate was shown to beat its base model. The best, candidate 1 ")
        assert "differs from it by +0.0000" in board.reason


@pytest.mark.parametrize("metric", ["loss", "score"])
def test_noise_seldom_wins(metric, generator, monkeypatch):
    """The whole procedure, six candidates tried, finds a winner in at most 5 of 100 sessions where there is none."""
    monkeypatch.setattr(paired, "FLIPS", 1000)
    monkeypatch.setattr(statistics, "BOOTSTRAPS", 50)
    found, sessions = 0, 200
    for _ in range(sessions):
        if metric == "loss":
            difficulty = generator.gamma(5, 2, 40)
            noisy = [Measured.of_base(BASE, rows(difficulty + generator.normal(0, 1, 40)))]
            tried = [one(rows(difficulty + generator.normal(0, 1, 40))) for _ in range(6)]
        else:
            chance = generator.random(40)
            noisy = [Measured.of_base(BASE, scores=[float(x) for x in generator.random(40) < chance])]
            tried = [one(scores=[float(x) for x in generator.random(40) < chance]) for _ in range(6)]
        found += judge(noisy, tried, metric).winner != 0
    assert found <= sessions * 0.05 + 3 * np.sqrt(sessions * 0.05 * 0.95)


def test_a_failed_candidate_costs_only_itself(generator):
    base = generator.gamma(5, 2, 60)
    good = one(rows(base * 0.5))
    board = judge(
        [Measured.of_base(BASE, rows(base))], [one(failed="out of memory"), good, one(rows([np.nan] * 60))], "loss"
    )
    assert (board.winner, board.ranking) == (2, [2])
    assert board.results[1].failed == "out of memory"
    assert "diverged" in board.results[3].failed
    assert "2 of 3 candidates failed (1 x out of memory; 1 x its loss is not a number" in board.reason
    assert "and alone beats its base model" in board.reason


def test_all_failed():
    board = judge([Measured.of_base(BASE, rows([1.0] * 5))], [one(failed="no disk"), one(failed="no disk")], "loss")
    assert (board.winner, board.ranking) == (0, [])
    assert board.reason == "No candidate has figures: all 2 failed (2 x no disk)."


def test_no_figures_of_the_base_model_no_winner():
    board = judge([Measured.of_base(BASE, failed="engine away")], [one(rows([1.0] * 50))], "loss")
    assert board.winner == 0
    assert board.reason.startswith("No candidate can be promoted: there are no figures of the base model")


def test_of_equal_scores_the_lower_loss_wins_then_the_cheaper():
    base, tuned = [0.0] * 30, [1.0] * 30
    bases = [Measured.of_base(BASE, rows([9.0] * 30), base)]
    worse, better = rows([5.0] * 30), rows([4.0] * 30)
    board = judge(bases, [one(worse, tuned, seconds=1.0), one(better, tuned, seconds=9.0)], "score")
    assert board.winner == 2
    assert "It equals candidate 1" in board.reason
    assert "the lower loss decided" in board.reason
    board = judge(bases, [one(better, tuned, seconds=9.0), one(better, tuned, seconds=1.0)], "score")
    assert board.winner == 2
    assert "the lower cost decided" in board.reason


def test_losses_of_different_tokenizers_are_ranked_by_bytes(generator):
    base = generator.gamma(5, 2, 60)
    bases = [Measured.of_base(BASE, rows(base)), Measured.of_base(OTHER, rows(base, tokens=40))]
    fewer_nats_a_token = one(rows(base * 0.9, tokens=40), base=OTHER)
    fewer_nats_a_byte = one(rows(base * 0.5))
    board = judge(bases, [fewer_nats_a_token, fewer_nats_a_byte], "loss")
    assert board.results[2].loss is not None
    assert board.results[2].loss.mean < (board.results[3].loss.mean if board.results[3].loss else 0)
    assert board.ranking == [2, 1]


def test_held_out_rows_say_what_was_shown_and_no_more(generator):
    base = generator.gamma(5, 2, 80)
    better = compare_held_out("loss", rows(base), rows(base * 0.5))
    assert better.statement.startswith("The final model is better than its base model: its loss is lower by ")
    assert "80 held-out rows" in better.statement
    assert better.p_value < 0.05
    worse = compare_held_out("score", [1.0] * 30, [0.0] * 30, base_temperature=0.3)
    assert worse.statement.startswith("The final model is worse than its base model: its score is lower by 1.0000")
    assert "best temperature (0.3)" in worse.statement
    same = compare_held_out("score", [1.0, 0.0] * 20, [1.0, 0.0] * 20)
    assert same.statement.startswith("No difference from the base model was shown: the score differs by +0.0000")
    assert compare_held_out("score", [None], [1.0]).statement.startswith("Nothing can be said")


def test_the_table_shows_what_there_is(generator):
    base = generator.gamma(5, 2, 60)
    board = judge(
        [Measured.of_base(BASE, rows(base))], [one(rows(base * 0.5), seconds=75.0), one(failed="no disk")], "loss"
    )
    text = scoreboard_table(board.results, winner=board.winner, costs={1: 0.5}, currency="EUR")
    lines = text.splitlines()
    assert lines[0].split() == [
        "#",
        "base",
        "model",
        "rank",
        "learning",
        "rate",
        "loss",
        "bits/byte",
        "p",
        "(Holm)",
        "better",
        "time",
        "cost",
    ]
    assert lines[1].startswith("base  tiny-math-v1  -")
    assert lines[2].startswith("1*    tiny-math-v1  8")
    assert lines[2].endswith("yes     1 min 15 s  0.50 EUR")
    assert lines[3].endswith("FAILED: no disk")
    assert "score" not in lines[0]
    markdown = scoreboard_table(board.results, markdown=True).splitlines()
    assert {line.count("|") for line in markdown} == {markdown[0].count("|")}
