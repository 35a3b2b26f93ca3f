"""Rows on their way into a job's folder: all of them in order, split by the seed, in memory that does not grow with the dataset."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.jobs import dataset_rows
from tunesmith.jobs.evaluation_rows import EvaluationRows
from tunesmith.settings import Settings
from tunesmith.storage.objects import ObjectStore

KEY = "datasets/local/d/rows.jsonl"


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open(Settings(data_dir=tmp_path / "d"))


def row(number: int, size: int = 1) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"ä{number} " * size}]}


def store(objects: ObjectStore, tmp_path: Path, count: int, size: int = 1) -> None:
    file = tmp_path / "rows.jsonl"
    with file.open("w") as lines:
        lines.writelines(json.dumps(row(number, size), ensure_ascii=False) + "\n" for number in range(count))
    objects.put_file(KEY, file)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


class Doubling:
    """A host whose dataset_adapter gives every row twice."""

    async def adapt(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each for row in rows for each in (row, row)]


async def test_all_rows_are_brought_in_order_or_as_the_adapter_makes_them(objects: ObjectStore, tmp_path: Path) -> None:
    store(objects, tmp_path, 30)
    target = tmp_path / "run" / "data" / "train.jsonl"
    assert await dataset_rows.bring(objects, KEY, target, None) == 30
    assert read(target) == [row(number) for number in range(30)]
    assert await dataset_rows.bring(objects, KEY, target, Doubling()) == 60  # type: ignore[arg-type]
    assert read(target) == [row(number // 2) for number in range(60)]
    assert [file.name for file in target.parent.iterdir()] == ["train.jsonl"]


async def test_a_dataset_that_is_gone_or_comes_to_nothing_is_refused(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no object"):
        await dataset_rows.bring(objects, KEY, tmp_path / "train.jsonl", None)
    store(objects, tmp_path, 0)
    with pytest.raises(InvalidArgument, match="no rows"):
        await dataset_rows.bring(objects, KEY, tmp_path / "train.jsonl", Doubling())  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (9, 1), (57, 5), (3000, 100)])
async def test_what_is_held_out_is_drawn_from_the_seed_and_not_trained(
    objects: ObjectStore, tmp_path: Path, count: int, expected: int
) -> None:
    store(objects, tmp_path, count)
    train, held_out = tmp_path / "train.jsonl", tmp_path / "evaluation.jsonl"
    await dataset_rows.bring(objects, KEY, train, None)
    assert dataset_rows.carve_out(train, held_out, count, seed=7) == expected
    drawn = sorted(random.Random("7/carve-out").sample(range(count), expected))  # as jobs of earlier versions drew it
    assert read(held_out) == [row(number) for number in drawn]
    assert read(train) == [row(number) for number in range(count) if number not in drawn]


async def test_one_row_cannot_be_split(objects: ObjectStore, tmp_path: Path) -> None:
    store(objects, tmp_path, 1)
    train = tmp_path / "train.jsonl"
    await dataset_rows.bring(objects, KEY, train, None)
    with pytest.raises(InvalidArgument, match="1 row"):
        dataset_rows.carve_out(train, tmp_path / "evaluation.jsonl", 1, seed=7)
    assert read(train) == [row(0)]


class Renderer:
    """A token a character."""

    def render(self, messages: Sequence[dict[str, Any]], tools: Any = None) -> list[int]:
        return [0] * sum(len(message["content"]) for message in messages)


def test_prompts_that_leave_no_room_are_named_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    answered = {
        "messages": [*row(0)["messages"], {"role": "assistant", "content": "x" * 99}]
    }  # what is answered is no prompt
    file.write_text("".join(json.dumps(each) + "\n" for each in [answered, *(row(1, 20) for _ in range(7)), row(2)]))
    dataset_rows.check_prompts(file, Renderer(), 61, "datasets/d")  # type: ignore[arg-type]
    with pytest.raises(
        InvalidArgument, match=r"7 of 9 prompts of datasets/d .* 60 tokens \(row 2: 60 tokens, .*row 6: 60 tokens\)"
    ):
        dataset_rows.check_prompts(file, Renderer(), 60, "datasets/d")  # type: ignore[arg-type]


async def test_memory_is_flat_in_the_datasets_size(objects: ObjectStore, tmp_path: Path) -> None:
    store(objects, tmp_path, 3000, size=800)
    train, held_out = tmp_path / "train.jsonl", tmp_path / "evaluation.jsonl"
    assert (tmp_path / "rows.jsonl").stat().st_size > 12 * 2**20
    tracemalloc.start()
    try:
        count = await dataset_rows.bring(objects, KEY, train, None)
        dataset_rows.carve_out(train, held_out, count, seed=0)
        dataset_rows.check_prompts(train, Renderer(), 10_000, "datasets/d")  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


def test_an_evaluations_memory_is_flat_in_the_datasets_size(tmp_path: Path) -> None:
    count = 3000
    big = {"messages": [{"role": "user", "content": "x" * 4500}]}
    tracemalloc.start()
    try:
        record = EvaluationRows(tmp_path)
        with record.rows_path.open("w") as rows:
            rows.writelines(json.dumps({**big, "number": number}) + "\n" for number in range(count))
        record.look()
        for number, given in record.rows(record.missing()):
            record.append(finished(number, given))
        record.close()
        again = EvaluationRows(tmp_path)
        with (tmp_path / "results.jsonl").open("wb") as results:
            again.write_results(results)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (again.count, again.scored, again.missing(), again.metrics()["score"]) == (count, count, [], 0.5)
    again.close()
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [one["number"] for one in written] == list(range(count))
    assert written[7]["evaluation_result"] == {"score": 0.5, "is_score_valid": True, "reason": ""}
    assert (tmp_path / "results.jsonl").stat().st_size > 12 * 2**20
    assert peak < 6 * 2**20


def finished(index: int, given: dict[str, Any]) -> dict[str, Any]:
    counts = {"platform_failure": False, "input_tokens": 1, "output_tokens": 1, "seconds": 0.1}
    verdict = {"score": 0.5, "is_score_valid": True, "reason": ""}
    return {"row_index": index, "attempt": 0, "rollout_id": f"r{index}", "row": given, **counts, **verdict}
