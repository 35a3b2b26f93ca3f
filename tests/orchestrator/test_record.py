"""The orchestrator's record: what a restart finds again, and what a torn write does."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from tunesmith.errors import FailedPrecondition
from tunesmith.orchestrator.record import Record, RunState
from tunesmith.runs.files import JsonLines, lock, read_json_lines


def line(chunk: int, rollout_id: str) -> dict:
    return {"kind": "train", "invocation_id": f"i{chunk}", "chunk": chunk, "version": chunk, "rollout_id": rollout_id}


def test_a_restart_reuses_the_rollouts_of_the_open_chunk_only(tmp_path):
    with closing(Record(tmp_path)) as record:
        record.rollout(line(0, "a"))
        record.event("chunk", chunk=0, sealed=1)
        record.rollout(line(1, "b"))
    with closing(Record(tmp_path)) as again:
        assert again.finished_chunks[0]["sealed"] == 1
        assert again.recorded("i0") == []
        assert [r["rollout_id"] for r in again.recorded("i1")] == ["b"]


def test_a_torn_last_line_is_cut_and_writing_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n{"a":')
    with closing(JsonLines(path)) as log:
        log.append({"a": 3})
    assert [record["a"] for _, record in read_json_lines(path)] == [1, 2, 3]


def test_reading_goes_on_from_an_offset(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n{"a"')
    (first, _), (second, record) = read_json_lines(path)
    assert record == {"a": 2}
    assert [r for _, r in read_json_lines(path, first)] == [{"a": 2}]
    assert list(read_json_lines(path, second)) == []


def test_the_second_holder_of_a_lock_is_told_who_has_it(tmp_path):
    held = lock(tmp_path / "x.lock")
    with pytest.raises(FailedPrecondition, match="held by process"):
        lock(tmp_path / "x.lock")
    held.close()
    lock(tmp_path / "x.lock").close()


def test_status_is_whole_after_each_update(tmp_path):
    with closing(Record(tmp_path)) as record:
        record.update(step=3, mean_score=0.5)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["step"], status["mean_score"]) == ("RUNNING", 3, 0.5)


def test_a_restart_goes_on_from_the_last_status(tmp_path):
    with closing(Record(tmp_path)) as record:
        record.update(step=3, percent=40, best_version=2, state=RunState.FAILED, message="cause")
    with closing(Record(tmp_path)) as again:
        again.update(total_steps=9)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["step"], status["percent"], status["best_version"], status["total_steps"]) == (3, 40, 2, 9)
    assert (status["state"], status["message"]) == ("RUNNING", "")
