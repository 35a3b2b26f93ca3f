"""What was trained, held against what the gateway recorded: the sealed batches of a job beside its completions."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tunesmith.runs.batch import Batch


@dataclass(frozen=True)
class Call:
    """One complete model call of a rollout, as it stands in `completions.db`."""

    prompt_ids: list[int]
    sampled_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Comparison:
    """The trained rollouts of a job.

    Attributes:
        rollouts: How many.
        calls: Their model calls.
        spliced: Rollouts of several calls that are one sequence, which is the last prompt with what was sampled after it.
        forked: Rollouts of more than one sequence.
        sampled: Tokens that the gateway recorded as sampled.
        trained: Tokens that the batches train.
        lost: Recorded tokens that are not trained at their own place with their own log-probability.
        strange: Trained tokens that are not recorded ones: sampled text that was tokenised again would be here.
    """

    rollouts: int
    calls: int
    spliced: int
    forked: int
    sampled: int
    trained: int
    lost: int
    strange: int


def calls_by_rollout(database: Path) -> dict[str, list[Call]]:
    """All complete calls that carry a rollout id, in turn order."""
    found: dict[str, list[Call]] = defaultdict(list)
    query = (
        "select rollout_id, prompt_ids, sampled_ids, logprobs from completions "
        "where rollout_id is not null and status = 'complete' order by rollout_id, turn"
    )
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        for rollout_id, *blobs in connection.execute(query):
            arrays = [
                np.frombuffer(blob, kind).tolist() for blob, kind in zip(blobs, ("<i4", "<i4", "<f4"), strict=True)
            ]
            found[rollout_id].append(Call(*arrays))
    return found


def compare(run: Path, database: Path) -> Comparison:
    """Hold each batch of a run directory against the completions; rollouts that taught nothing are in no batch."""
    recorded = calls_by_rollout(database)
    total: Counter[str] = Counter()
    for path in sorted((run / "batches").glob("step-*.safetensors")):
        batch = Batch.read(path)
        sequences = defaultdict(list)
        for sample in batch.samples:
            sequences[sample.rollout].append(sample)
        for index, rollout in enumerate(batch.header.rollouts):
            calls = recorded[rollout.rollout_id]
            # (what stands before a token, by length; the token; its log-probability): a token's place in any sequence
            said = Counter(
                (len(call.prompt_ids) + i, *pair)
                for call in calls
                for i, pair in enumerate(zip(call.sampled_ids, call.logprobs, strict=True))
            )
            trained = Counter(
                (i, sample.token_ids[i], sample.logprobs[i])
                for sample in sequences[index]
                for i, is_sampled in enumerate(sample.sampled)
                if is_sampled
            )
            total.update(
                rollouts=1,
                calls=len(calls),
                forked=len(sequences[index]) > 1,
                spliced=len(calls) > 1
                and [sample.token_ids for sample in sequences[index]] == [calls[-1].prompt_ids + calls[-1].sampled_ids],
                sampled=said.total(),
                trained=trained.total(),
                lost=(said - trained).total(),
                strange=(trained - said).total(),
            )
    return Comparison(**{name: total[name] for name in Comparison.__dataclass_fields__})
