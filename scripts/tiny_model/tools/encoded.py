"""Demonstrations as token ids, made in worker processes so that a fast accelerator need not wait. Imports no torch."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from scripts.tiny_model.tools.demonstrations import Mixture, demonstration
from scripts.tiny_model.tools.questions import Part, question


@dataclass(frozen=True)
class Encoded:
    """One demonstration.

    Attributes:
        ids: The whole conversation.
        is_said: For each id, whether the model says it.
    """

    ids: list[int]
    is_said: list[bool]


@dataclass(frozen=True)
class Source:
    """Where demonstrations come from.

    Attributes:
        stream: Seed of questions and habits.
        mixture: Shares of the habits.
        tokenizer: Its `tokenizer.json`.
    """

    stream: str
    mixture: Mixture
    tokenizer: Path


def pool(source: Source, start: int, count: int) -> list[Encoded]:
    """Gives demonstrations `start` to `start + count` of a source."""
    tokenizer = _tokenizer(source.tokenizer)
    played = []
    for index in range(start, start + count):
        rng = random.Random(f"{source.stream}/{index}/demonstration")
        played.append(demonstration(question(source.stream, index, Part.PRETRAIN), source.mixture.draw(rng), rng))
    texts = [segment.text for segments in played for segment in segments]
    pieces = iter([encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)])
    found = []
    for segments in played:
        ids, is_said = [], []
        for segment, piece in zip(segments, itertools.islice(pieces, len(segments)), strict=True):
            ids += piece
            is_said += [segment.is_said] * len(piece)
        found.append(Encoded(ids, is_said))
    return found


def pools(source: Source, count: int, size: int, workers: int) -> Iterator[list[Encoded]]:
    """Yields `count` pools of `size` demonstrations in order; with `workers` 0 they are made in this process."""
    jobs = [(source, index * size, size) for index in range(count)]
    if not workers:
        yield from (pool(*job) for job in jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as processes:
        yield from processes.imap(_pool_of, jobs)


def _one_thread() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers are the parallelism


def _pool_of(job: tuple[Source, int, int]) -> list[Encoded]:
    return pool(*job)


_loaded: dict[Path, Tokenizer] = {}


def _tokenizer(path: Path) -> Tokenizer:
    if path not in _loaded:
        _loaded[path] = Tokenizer.from_file(str(path))
    return _loaded[path]
