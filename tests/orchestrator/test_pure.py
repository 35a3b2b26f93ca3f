"""The orchestrator's pure parts: schedule, merging of turns, groups, intervals."""

from __future__ import annotations

import pytest
from tunesmith.orchestrator.evaluation import best_version, interval
from tunesmith.orchestrator.groups import ScoredRollout, commonest_reasons, group, seal
from tunesmith.orchestrator.samples import Completion, TokenSequence, merge
from tunesmith.orchestrator.schedule import chunks
from tunesmith.runs.batch import Batch
from tunesmith.runs.held_out import comparable

POLICY = "accounts/local/models/job-v3"


def completion(
    turn: int, prompt: list[int], sampled: list[int], model: str = POLICY, status: str = "complete"
) -> Completion:
    return Completion(turn, model, prompt, sampled, [-0.5] * len(sampled), status)


def rollout(row: int, k: int, score: float | None, *, reason: str = "") -> ScoredRollout:
    return ScoredRollout(
        row,
        k,
        0,
        f"r{row}-{k}",
        3,
        score,
        score is not None,
        reason,
        sequences=[TokenSequence([1, 2], [0, 1], [0.0, -1.0])],
    )


def test_every_row_is_in_exactly_one_chunk_of_each_epoch():
    plan = chunks(23, epochs=2, chunk_size=5, shuffle=True, seed=7)
    for epoch in (0, 1):
        rows = [row for chunk in plan if chunk.epoch == epoch for row in chunk.rows]
        assert sorted(rows) == list(range(23))
    assert [chunk.index for chunk in plan] == list(range(len(plan)))
    assert [chunk.last_of_epoch for chunk in plan].count(True) == 2
    assert plan[0].rows != plan[len(plan) // 2].rows, "epochs draw their own order"
    assert plan == chunks(23, epochs=2, chunk_size=5, shuffle=True, seed=7)


def test_a_short_last_chunk_joins_the_one_before():
    assert [len(chunk.rows) for chunk in chunks(12, epochs=1, chunk_size=5, shuffle=False, seed=0)] == [5, 7]
    assert [len(chunk.rows) for chunk in chunks(13, epochs=1, chunk_size=5, shuffle=False, seed=0)] == [5, 5, 3]
    assert [len(chunk.rows) for chunk in chunks(4, epochs=1, chunk_size=None, shuffle=False, seed=0)] == [4]


def test_turns_that_continue_exactly_become_one_sequence():
    (sequence,) = merge([completion(0, [1, 2], [3, 4]), completion(1, [1, 2, 3, 4, 9], [5])], POLICY)
    assert sequence.token_ids == [1, 2, 3, 4, 9, 5]
    assert sequence.sampled == [0, 0, 1, 1, 0, 1]
    assert sequence.logprobs == [0.0, 0.0, -0.5, -0.5, 0.0, -0.5]


def test_an_edited_history_starts_a_new_sequence_and_trains_no_token_twice():
    turns = [completion(0, [1, 2], [3, 4]), completion(1, [1, 2, 3, 4, 9], [5]), completion(2, [1, 2, 3, 8], [6])]
    first, fork = merge(turns, POLICY)
    assert first.sampled == [0, 0, 1, 1, 0, 1]
    assert fork.token_ids == [1, 2, 3, 8, 6]
    assert fork.sampled == [0, 0, 0, 0, 1], "token 3 was trained in the first sequence"


def test_a_call_that_was_made_again_is_trained_once():
    (sequence,) = merge([completion(0, [1, 2], [3]), completion(1, [1, 2], [4, 5])], POLICY)
    assert sequence.token_ids == [1, 2, 4, 5], "the answer that the agent used is the last one"


def test_only_complete_calls_of_the_policy_are_trained():
    other = completion(0, [1], [2], model="accounts/local/models/judge")
    cut = completion(1, [1], [2], status="aborted")
    assert merge([other, cut], POLICY) == []


def test_groups_that_teach_nothing_are_dropped_and_counted():
    rollouts = [
        rollout(0, 0, 1.0),
        rollout(0, 1, 0.0),
        rollout(1, 0, 1.0),
        rollout(1, 1, 1.0),
        rollout(2, 0, 1.0),
        rollout(2, 1, None),
    ]
    grouped = group(rollouts)
    assert [[m.rollout_id for m in members] for members in grouped.kept] == [["r0-0", "r0-1"]]
    assert (grouped.constant, grouped.too_small, grouped.dropped) == (1, 1, 2)


def test_a_row_without_any_valid_score_is_counted_too():
    grouped = group([rollout(0, 0, None), rollout(0, 1, None)])
    assert (grouped.kept, grouped.too_small) == ([], 1)


def test_a_sealed_batch_reads_back_as_written(tmp_path):
    grouped = group([rollout(0, 0, 1.0), rollout(0, 1, 0.25)])
    batch = seal(grouped, step=4, epoch=1, temperature=0.7, learning_rate=1e-3, evaluator="7")
    batch.write(tmp_path / "step.safetensors")
    assert Batch.read(tmp_path / "step.safetensors") == batch
    assert [r.score for r in batch.header.rollouts] == [1.0, 0.25]


def test_reasons_are_counted():
    text = commonest_reasons(
        [rollout(0, 0, None, reason="boom"), rollout(0, 1, None, reason="boom"), rollout(0, 2, 1.0)]
    )
    assert text == "boom (2x)"


@pytest.mark.parametrize(("scores", "low", "high"), [([1.0] * 10, 0.7225, 1.0), ([0.0, 1.0] * 50, 0.4038, 0.5962)])
def test_wilson_interval_matches_its_closed_form(scores, low, high):
    assert interval(scores) == pytest.approx((low, high), abs=2e-4)


def test_interval_of_graded_scores_knows_how_few_they_are():
    low, high = interval([0.2, 0.4, 0.6])
    effective = 0.4 * 0.6 / (0.04 / 3)  # 0/1 rows with the same standard error
    assert (low + high) / 2 == pytest.approx((0.4 * effective + 4.302653**2 / 2) / (effective + 4.302653**2))
    assert interval([]) == (0.0, 1.0)


def test_the_later_of_equal_versions_is_best_and_version_0_is_never_promoted():
    assert best_version({0: 0.9, 10: 0.5, 20: 0.5}) == 20
    assert best_version({0: 0.9}) is None


def test_evaluations_are_compared_that_the_newest_ones_evaluator_version_gave():
    def event(version: int, *evaluator: int | None) -> dict[str, object]:
        return {"version": version, **({"evaluator_version": evaluator[0]} if evaluator else {})}

    assert comparable([]) == {}
    events = [event(2, 1), event(0), event(6, 2), event(4, 2), event(3, None)]
    assert list(comparable(events)) == [0, 4, 6], (
        "what names none is of the newest's; what says that none is known is not"
    )
    assert list(comparable([event(0), event(5)])) == [0, 5]
    assert comparable([event(0, 1), event(0, 2)]) == {0: event(0, 2)}
