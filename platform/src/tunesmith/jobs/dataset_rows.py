"""The rows of a job on their way from the stored dataset into its folder: one line at a time, whatever the dataset's size.

Each file is written beside its place and renamed; doing all of it again does no harm.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tunesmith.db.tables import Dataset
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.evaluators.client import HostClient
from tunesmith.jobs.handler import JobContext
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.carve_out import carved_out
from tunesmith.runs.files import read_json_lines
from tunesmith.storage.objects import ObjectStore

SHOWN_ROWS = 5
"""Rows that an error names."""
Row = dict[str, Any]


async def stored_rows(context: JobContext, name: str) -> tuple[str, bool]:
    """Where a dataset is stored, and whether its rows are in the evaluator's shape already. Raises FailedPrecondition."""
    dataset = await context.query(lambda session: session.get(Dataset, name))
    if dataset is None or dataset.object_key is None:
        raise FailedPrecondition(f"The dataset {name} has no rows any more; upload it again and start a new job.")
    return dataset.object_key, dataset.spec.get("evalProtocol") is not None


async def bring(objects: ObjectStore, key: str, target: Path, adapter: HostClient | None) -> int:
    """Write the rows of a stored dataset to `target`, in the shape that the evaluator expects; returns how many.

    Args:
        objects: the platform's store.
        key: of the dataset's object, JSONL that was validated line by line when it was uploaded.
        target: JSONL.
        adapter: the evaluator's host, whose dataset_adapter is a function of all rows, which are then held in memory; None where the
            client marked them as Eval Protocol rows.

    Raises InvalidArgument when there is none, NotFound when the object is gone.
    """
    stored = (json.loads(line) for _, line in objects.lines(key) if line.strip())
    if adapter is None:
        count = await asyncio.to_thread(_write, target, stored)
    else:
        adapted = await adapter.adapt(await asyncio.to_thread(list, stored))
        count = await asyncio.to_thread(_write, target, adapted)
    if not count:
        raise InvalidArgument("The dataset_adapter of the evaluator returned no rows for this dataset.")
    return count


def carve_out(train: Path, held_out: Path, count: int, seed: int) -> int:
    """Move a tenth of the `count` rows of `train` to `held_out`, at most 100, at least one, drawn from the seed; returns how many.

    Raises InvalidArgument when there is only one row.
    """
    if count < 2:
        raise InvalidArgument(f"A dataset of {count} row(s) cannot be split; give an evaluationDataset instead.")
    number = carved_out(count)
    drawn = set(random.Random(f"{seed}/carve-out").sample(range(count), number))
    _split(_rows(train), (train, held_out), lambda index: index in drawn)
    return number


def check_prompts(file: Path, renderer: Renderer, limit: int, what: str) -> None:
    """Refuse rows whose prompt leaves no room for one sampled token in `limit` tokens of context. Raises InvalidArgument."""
    too_long, count, shown = 0, 0, []
    for row in _rows(file):
        count += 1
        messages = row["messages"]
        while messages and messages[-1].get("role") == "assistant":
            messages = messages[:-1]
        length = len(renderer.render(messages, tools=row.get("tools")))
        if length >= limit:
            too_long += 1
            if len(shown) < SHOWN_ROWS:
                shown.append(f"row {count}: {length} tokens")
    if too_long:
        raise InvalidArgument(
            f"{too_long} of {count} prompts of {what} do not fit the context of {limit} tokens ({', '.join(shown)}). "
            "Shorten or remove these rows, or choose a base model with a longer context."
        )


def _rows(file: Path) -> Iterator[Row]:
    return (row for _, row in read_json_lines(file))


def _write(target: Path, rows: Iterable[Row]) -> int:
    return _split(rows, (target,), lambda _: False)


def _split(rows: Iterable[Row], targets: tuple[Path, ...], second: Callable[[int], bool]) -> int:
    """Write each row to the first target, or to the second where that is said of its index; returns how many there were."""
    temporaries = [target.with_name(f".{target.name}.{os.getpid()}.tmp") for target in targets]
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open(temporary, "w", encoding="utf-8")) for temporary in temporaries]
            for row in rows:
                files[second(count)].write(json.dumps(row) + "\n")
                count += 1
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)  # on a full disk it would take the room that others need
        raise
    return count
