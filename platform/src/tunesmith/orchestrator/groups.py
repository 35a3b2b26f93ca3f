"""Scored rollouts -> groups -> the rollouts worth a place in the batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.orchestrator.samples import Calls, TokenSequence
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample


@dataclass(frozen=True)
class ScoredRollout:
    """One attempt at one row, after its score. `score` is None unless `is_score_valid`."""

    row_index: int
    k: int
    attempt: int
    rollout_id: str
    version: int
    score: float | None
    is_score_valid: bool
    reason: str
    platform_failure: bool = False
    """The platform, not the agent or the evaluator, made it fail: it is rolled again and not counted."""
    straggler: bool = False
    """Its group went on without it: neither trained nor counted among the invalid."""
    sequences: list[TokenSequence] = field(default_factory=list)
    calls: Calls | None = None
    """What its recorded model calls come to; None where they were not asked for."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Score of each of the evaluator's metrics."""


@dataclass(frozen=True)
class GroupedChunk:
    """What a chunk came to."""

    kept: list[list[ScoredRollout]]
    """Groups with at least two valid scores that differ."""
    constant: int
    """Groups whose valid scores are all equal: no advantage, dropped and counted."""
    too_small: int
    """Groups with fewer than two valid scores: dropped and counted."""

    @property
    def dropped(self) -> int:
        """Groups that are not in the batch."""
        return self.constant + self.too_small


def group(rollouts: Sequence[ScoredRollout]) -> GroupedChunk:
    """Form the groups of a chunk (one per row index) and drop those that teach nothing."""
    by_row: dict[int, list[ScoredRollout]] = defaultdict(list)
    for rollout in sorted(rollouts, key=lambda r: (r.row_index, r.k)):
        if rollout.is_score_valid:
            by_row[rollout.row_index].append(rollout)
    row_count = len({rollout.row_index for rollout in rollouts})
    whole = [members for members in by_row.values() if len(members) >= 2]
    kept = [members for members in whole if len({member.score for member in members}) > 1]
    return GroupedChunk(kept, constant=len(whole) - len(kept), too_small=row_count - len(whole))


def seal(
    grouped: GroupedChunk, *, step: int, epoch: int, temperature: float, learning_rate: float, evaluator: str
) -> Batch:
    """Put the kept groups into a batch. A valid rollout without trainable tokens still counts in its group's baseline."""
    members = [(number, rollout) for number, rollouts in enumerate(grouped.kept) for rollout in rollouts]
    header = BatchHeader(
        step=step,
        epoch=epoch,
        temperature=temperature,
        learning_rate=learning_rate,
        evaluator_version=evaluator,
        dropped_groups=grouped.dropped,
        rollouts=[
            BatchRollout(
                rollout_id=rollout.rollout_id,
                row_index=rollout.row_index,
                group=number,
                score=rollout.score if rollout.score is not None else 0.0,
                version=rollout.version,
            )
            for number, rollout in members
        ],
    )
    samples = [
        Sample(sequence.token_ids, sequence.sampled, sequence.logprobs, index)
        for index, (_, rollout) in enumerate(members)
        for sequence in rollout.sequences
    ]
    return Batch(header, samples)


def commonest_reasons(rollouts: Sequence[ScoredRollout], most: int = 3) -> str:
    """The commonest reasons of invalid scores, as one line."""
    counted = Counter(rollout.reason or "no reason given" for rollout in rollouts if not rollout.is_score_valid)
    return "; ".join(f"{reason} ({count}x)" for reason, count in counted.most_common(most))
