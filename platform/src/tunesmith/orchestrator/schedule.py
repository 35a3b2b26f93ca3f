"""Which rows are rolled out together, in which order: a pure function of run.json and the number of rows."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """Rows rolled out together; with staleness 0, one chunk is one batch is one optimizer step."""

    index: int
    """0, 1, 2, ... over the whole run."""
    epoch: int
    rows: tuple[int, ...]
    """Row indices into the training rows."""
    last_of_epoch: bool


def chunks(row_count: int, *, epochs: int, chunk_size: int | None, shuffle: bool, seed: int) -> list[Chunk]:
    """Cut `epochs` passes over `row_count` rows into chunks of `chunk_size` rows (None = one per epoch).

    Each epoch draws its own order from (seed, epoch). A last chunk shorter than half of `chunk_size` joins the one before it,
    so that no step is taken on a handful of groups.
    """
    size = min(chunk_size or row_count, row_count)
    result: list[Chunk] = []
    for epoch in range(epochs):
        order = list(range(row_count))
        if shuffle:
            random.Random(f"{seed}/{epoch}").shuffle(order)
        cuts = [order[start : start + size] for start in range(0, row_count, size)]
        if len(cuts) > 1 and len(cuts[-1]) * 2 < size:
            cuts[-2:] = [cuts[-2] + cuts[-1]]
        for position, rows in enumerate(cuts):
            result.append(Chunk(len(result), epoch, tuple(rows), last_of_epoch=position == len(cuts) - 1))
    return result
