"""Rows are read where they lie: a large dataset takes no memory, and a broken line is named."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.orchestrator.rows import Rows


def write(path: Path, count: int) -> Path:
    text = "".join(json.dumps({"number": i, "text": "ü" * 400}, ensure_ascii=False) + "\n" for i in range(count))
    path.write_text("\n" + text.replace("\n", "\n\n", 1), encoding="utf-8")  # blank lines are no rows
    return path


def test_rows_are_found_by_index(tmp_path: Path):
    rows = Rows(write(tmp_path / "rows.jsonl", 50))
    assert len(rows) == 50
    assert [rows[index]["number"] for index in (49, 0, 17)] == [49, 0, 17]
    assert [row["number"] for row in rows.first(3).values()] == [0, 1, 2]
    assert len(rows.first(1000)) == 50


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path):
    path = write(tmp_path / "rows.jsonl", 10_000)
    tracemalloc.start()
    try:
        rows = Rows(path)
        rows[9_999]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert size > 8_000_000
    assert kept < size / 50, "of a row only its place is kept"
    assert peak < size / 20


@pytest.mark.parametrize(("content", "said"), [('{"a": 1}\n{"b": \n', "line 2"), ("\n\n", "holds no rows")])
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str, said: str):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(InvalidArgument, match=said):
        Rows(tmp_path / "rows.jsonl")
