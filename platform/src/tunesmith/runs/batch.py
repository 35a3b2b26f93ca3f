"""Sealed batches: the samples of one optimizer step, in one safetensors file.

A sample is one token sequence of a rollout: prompt ids and sampled ids, in order. Tensors are flat over all samples:

| tensor | dtype | shape | what |
|---|---|---|---|
| token_ids | int32 | [T] | all samples one after another |
| sampled | uint8 | [T] | 1 where the token was sampled by the policy (trained), 0 where it was given |
| logprobs | float32 | [T] | log-probability at sampling, at the sampling temperature; 0 where not sampled |
| starts | int64 | [S + 1] | sample i is [starts[i], starts[i+1]) |
| rollout | int32 | [S] | index into the header's rollouts |

The header is JSON in the safetensors metadata: `BatchHeader`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.numpy import save

from tunesmith.runs.files import write_atomic


class BatchRollout(BaseModel):
    """One scored rollout of the batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollout_id: str
    row_index: int
    group: int
    """Rollouts with the same number share a row; advantages are relative to it."""
    score: float
    version: int
    """Policy version that sampled it."""


class BatchHeader(BaseModel):
    """What is true of the whole batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    epoch: int
    temperature: float
    learning_rate: float
    evaluator_version: str
    rollouts: list[BatchRollout]
    dropped_groups: int = 0
    """Groups left out because their scores did not vary, or fewer than two were valid."""

    @classmethod
    def read(cls, path: Path) -> BatchHeader:
        """The header of a sealed batch, without its tensors. Raises OSError or safetensors' error when it is not there or not whole."""
        with safe_open(path, "numpy") as file:
            return cls.model_validate(json.loads(file.metadata()["batch"]))


@dataclass(frozen=True)
class Sample:
    """One sequence: `token_ids` [L], `sampled` [L] of 0/1, `logprobs` [L], and the rollout it belongs to (index in the header)."""

    token_ids: list[int]
    sampled: list[int]
    logprobs: list[float]
    rollout: int


@dataclass(frozen=True)
class Batch:
    """A sealed batch in memory."""

    header: BatchHeader
    samples: list[Sample]

    def write(self, path: Path) -> None:
        """Seal: write to a temporary file and rename into place."""
        lengths = [len(sample.token_ids) for sample in self.samples]
        tensors = {
            "token_ids": np.fromiter((t for s in self.samples for t in s.token_ids), np.int32, sum(lengths)),
            "sampled": np.fromiter((t for s in self.samples for t in s.sampled), np.uint8, sum(lengths)),
            "logprobs": np.fromiter((t for s in self.samples for t in s.logprobs), np.float32, sum(lengths)),
            "starts": np.cumsum([0, *lengths], dtype=np.int64),
            "rollout": np.array([s.rollout for s in self.samples], np.int32),
        }
        write_atomic(path, save(tensors, metadata={"batch": self.header.model_dump_json()}))

    @classmethod
    def read(cls, path: Path) -> Batch:
        """Read a sealed batch."""
        with safe_open(path, "numpy") as file:
            header = BatchHeader.model_validate(json.loads(file.metadata()["batch"]))
            flat = {name: file.get_tensor(name) for name in ("token_ids", "sampled", "logprobs", "starts", "rollout")}
        bounds = flat["starts"].tolist()
        samples = [
            Sample(
                flat["token_ids"][a:b].tolist(), flat["sampled"][a:b].tolist(), flat["logprobs"][a:b].tolist(), rollout
            )
            for (a, b), rollout in zip(pairwise(bounds), flat["rollout"].tolist(), strict=True)
        ]
        return cls(header, samples)
