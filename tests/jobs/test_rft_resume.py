"""A failed run directory is made ready to go on: once for each resumption, and again after a crash in the middle."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from tunesmith.jobs.rft_resume import take_up
from tunesmith.orchestrator.record import Record, RunState
from tunesmith.runs.config import BaseModelRef, RunConfig

URL = "http://127.0.0.1:9"


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    config = RunConfig(
        job="j",
        base_model=BaseModelRef(name="b", path=tmp_path),
        dataset=tmp_path / "rows.jsonl",
        gateway_url="http://127.0.0.1:1",
        host_socket=tmp_path / "h.sock",
    )
    (tmp_path / "run.json").write_text(config.model_dump_json())
    for kind in ("run", "rollout"):
        (tmp_path / f"{kind}.key").write_text("gone from the database")
    with closing(Record(tmp_path)) as record:
        for chunk, valid in ((0, True), (1, True), (1, False), (1, False)):
            record.rollout(line(chunk, valid))
            if chunk == 0:
                record.event("chunk", chunk=0, sealed=1)
        record.update(state=RunState.FAILED, message="2 of 3 have no valid score", step=1, best_version=1)
    return tmp_path


def line(chunk: int, valid: bool, kind: str = "train") -> dict[str, object]:
    return {
        "kind": kind,
        "invocation_id": f"i{chunk}",
        "chunk": chunk,
        "version": chunk,
        "attempt": 0,
        "is_score_valid": valid,
    }


def recorded(run_dir: Path) -> list[bool]:
    with closing(Record(run_dir)) as record:
        return [bool(each["is_score_valid"]) for each in record.recorded("i1")]


def test_what_had_no_valid_score_is_rolled_out_again_and_nothing_else(failed: Path) -> None:
    assert recorded(failed) == [True, False, False], "a restart reuses them all"
    take_up(failed, 100.0, URL)
    assert recorded(failed) == [True]
    with closing(Record(failed)) as record:
        record.rollout(line(1, valid=False))
    assert recorded(failed) == [True, False], "a restart of the resumed run reuses what it recorded itself"


def test_final_state_and_keys_are_gone_and_the_rest_stays(failed: Path) -> None:
    take_up(failed, 100.0, URL)
    status = json.loads((failed / "status.json").read_text())
    assert (status["state"], status["message"], status["step"], status["best_version"]) == ("RUNNING", "", 1, 1)
    assert not list(failed.glob("*.key"))
    assert RunConfig.read(failed).gateway_url == URL


def test_each_resumption_counts_once(failed: Path) -> None:
    take_up(failed, 100.0, URL)
    (failed / "run.key").write_text("new")
    with closing(Record(failed)) as record:
        record.rollout(line(1, valid=False))
        record.update(state=RunState.FAILED, message="again")
    take_up(failed, 100.0, URL)  # another worker takes the job over
    assert (failed / "run.key").exists()
    assert json.loads((failed / "status.json").read_text())["state"] == "FAILED"
    take_up(failed, 200.0, URL)
    assert json.loads((failed / "status.json").read_text())["state"] == "RUNNING"
    assert recorded(failed) == [True]


def test_a_job_that_was_never_resumed_or_never_began_is_left_alone(failed: Path, tmp_path_factory) -> None:
    before = contents(failed)
    take_up(failed, None, RunConfig.read(failed).gateway_url)
    assert contents(failed) == before
    empty = tmp_path_factory.mktemp("empty")
    take_up(empty, 100.0, URL)
    assert not list(empty.iterdir())


def test_a_job_follows_a_platform_that_moved(failed: Path) -> None:
    before, config = contents(failed), RunConfig.read(failed)
    take_up(failed, None, URL)
    assert RunConfig.read(failed) == config.model_copy(update={"gateway_url": URL})
    assert contents(failed) == before | {"run.json": (failed / "run.json").read_bytes()}, "nothing else"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
