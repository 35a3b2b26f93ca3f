"""Which calls are trained and how they merge, on ids written by hand; gateway and engine join in `gateway/test_token_masks.py`."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.orchestrator.groups import ScoredRollout, group, seal
from tunesmith.orchestrator.samples import Completion, TokenSequence, merge

POLICY = "accounts/local/models/job-v3"
JUDGE = "accounts/local/models/judge"


def call(turn: int, prompt: list[int], sampled: list[int], **changes: Any) -> Completion:
    fields: dict[str, Any] = {"model": POLICY, "status": "complete", "logprobs": [-id / 8 for id in sampled]}
    return Completion(turn=turn, prompt_ids=prompt, sampled_ids=sampled, **fields | changes)


def ids(sequences: list[TokenSequence]) -> list[str]:
    """Each sequence as text, sampled ids in brackets."""
    return [
        " ".join(f"[{id}]" if mask else str(id) for id, mask in zip(s.token_ids, s.sampled, strict=True))
        for s in sequences
    ]


def test_the_answer_that_the_agent_used_is_trained_not_the_last_one() -> None:
    calls = [call(0, [1], [2]), call(1, [1], [3]), call(2, [1, 2, 9], [4])]
    assert ids(merge(calls, POLICY)) == ["1 [2] 9 [4]"]


def test_an_answer_used_by_a_call_that_broke_off_or_went_to_another_model_was_used() -> None:
    for later in ({"status": "aborted"}, {"model": JUDGE}):
        calls = [call(0, [1], [2]), call(1, [1], [3]), call(2, [1, 2, 9], [4], **later)]
        assert ids(merge(calls, POLICY)) == ["1 [2]"]


def test_of_unused_retries_the_last_is_trained() -> None:
    assert ids(merge([call(0, [1], [2]), call(1, [1], [3]), call(2, [1], [4])], POLICY)) == ["1 [4]"]


def test_the_same_answer_twice_is_trained_once_with_the_later_log_probabilities() -> None:
    calls = [call(0, [1], [2, 3]), call(1, [1], [2, 3], logprobs=[-7.0, -8.0]), call(2, [1, 2, 3, 9], [4])]
    (sequence,) = merge(calls, POLICY)
    assert (sequence.token_ids, sequence.sampled) == ([1, 2, 3, 9, 4], [0, 1, 1, 0, 1])
    assert sequence.logprobs == [0.0, -7.0, -8.0, 0.0, -0.5]


def test_two_answers_that_were_both_used_are_two_branches() -> None:
    calls = [
        call(0, [1], [2]),
        call(1, [1], [3]),
        call(2, [1, 2, 9], [4]),
        call(3, [1, 3, 9], [5]),
    ]
    assert ids(merge(calls, POLICY)) == ["1 [2] 9 [4]", "1 [3] 9 [5]"]


def test_a_fork_masks_what_another_sequence_trains() -> None:
    calls = [call(0, [1], [2]), call(1, [1, 2, 9], [4]), call(2, [1, 2, 8], [5]), call(3, [1, 2, 8, 5, 7], [6])]
    assert ids(merge(calls, POLICY)) == ["1 [2] 9 [4]", "1 2 8 [5] 7 [6]"]


def test_turns_count_not_the_order_in_which_they_came() -> None:
    calls = [call(0, [1], [2]), call(1, [1, 2, 9], [4]), call(2, [1, 2, 9, 4], [5])]
    assert ids(merge(calls[::-1], POLICY)) == ["1 [2] 9 [4] [5]"]


def test_a_prompt_that_begins_with_half_a_turn_is_a_sequence_of_its_own() -> None:
    assert ids(merge([call(0, [1], [2, 3]), call(1, [1, 2], [5])], POLICY)) == ["1 [2] [3]", "1 2 [5]"]


def test_nothing_is_trained_of_calls_without_ids() -> None:
    assert merge([call(0, [], []), call(1, [1], [])], POLICY) == []
    assert merge([], POLICY) == []


def test_ids_without_their_log_probabilities_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 sampled ids and 1 log-probabilities"):
        merge([call(0, [1], [2, 3], logprobs=[-1.0])], POLICY)


def test_all_sequences_of_a_rollout_carry_its_score() -> None:
    forked = merge([call(0, [1], [2]), call(1, [7], [8])], POLICY)
    rollouts = [
        ScoredRollout(0, 0, 0, "a", 3, 1.0, True, "", sequences=forked),
        ScoredRollout(0, 1, 0, "b", 3, 0.0, True, "", sequences=merge([call(0, [1], [5])], POLICY)),
    ]
    batch = seal(group(rollouts), step=0, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator="1")
    scores = [batch.header.rollouts[sample.rollout].score for sample in batch.samples]
    assert [(s.token_ids, score) for s, score in zip(batch.samples, scores, strict=True)] == [
        ([1, 2], 1.0),
        ([7, 8], 1.0),
        ([1, 5], 0.0),
    ]


class Counted(list[int]):
    """Ids that count how many of them are read: by slices, by comparison and one by one."""

    read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counted.read += len(found) if isinstance(key, slice) else 1
        return found

    def __eq__(self, other: object) -> bool:
        Counted.read += len(self)
        return super().__eq__(other)

    def __iter__(self) -> Any:
        for id in super().__iter__():
            Counted.read += 1
            yield id


def conversation(turns: int, forks: int) -> list[Completion]:
    """One long conversation, and forks of it that share its first prompt of 100 ids."""
    head = list(range(100))
    calls, so_far = [], head
    for turn in range(turns):
        calls.append(call(turn, Counted(so_far), [1000 + turn, 1001 + turn]))
        so_far = [*so_far, 1000 + turn, 1001 + turn, *[7] * 10]
    return calls + [call(turns + n, Counted([*head, 5000 + n]), [1]) for n in range(forks)]


@pytest.mark.parametrize(("turns", "forks"), [(1, 0), (30, 0), (30, 60), (60, 60)])
def test_every_prompt_is_read_once_however_many_sequences_there_are(turns: int, forks: int) -> None:
    calls = conversation(turns, forks)
    Counted.read = 0
    sequences = merge(calls, POLICY)
    read = Counted.read
    assert len(sequences) == 1 + forks
    recorded = sum(len(completion.prompt_ids) for completion in calls)
    written = sum(len(sequence.token_ids) for sequence in sequences)
    assert read <= recorded + written
