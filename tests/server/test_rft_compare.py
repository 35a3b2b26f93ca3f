"""Several jobs side by side, and what a job has done as a download."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from tunesmith.db.jobs import enqueue, finish, set_progress
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.db.tables import Job
from tunesmith.server.job_export import ROLLOUTS_AT_ONCE, safe_cell

from tests.server.conftest import Platform
from tests.server.test_rft_monitoring import spec
from tests.server.test_rft_rollouts import line

JOBS = "/reinforcementFineTuningJobs"
HOSTILE = '=HYPERLINK("http://evil","x")'


def make(platform: Platform, identity: str, rollouts: int = 3, **changes: Any) -> str:
    name = f"accounts/local/reinforcementFineTuningJobs/{identity}"
    chunk = {"kind": "chunk", "sealed": 1, "epoch": 0, "mean_score": 0.5, "metrics": {"exact": 0.25}, "time": 2.0}
    evaluation = {
        "kind": "evaluation",
        "step": 1,
        "version": 1,
        "score": 0.6,
        "low": 0.5,
        "high": 0.7,
        "n": 9,
        "time": 3.0,
    }
    events = [
        {**chunk, "chunk": 0, "step": 0},
        evaluation,
        {**chunk, "chunk": 1, "step": 1, "sealed": 0, "mean_score": None},
    ]
    lines = [line(0, n, 0, rollout_id=f"{identity}-{n}", reason=HOSTILE if n == 1 else "fine") for n in range(rollouts)]
    with platform.control.sessions.begin() as session:
        enqueue(
            session,
            name,
            "accounts/local",
            "rft",
            {**spec(), "output_model": f"accounts/local/models/{identity}", **changes},
        )
        add_events(session, name, "events.jsonl", list(enumerate(events)))
        add_events(session, name, "metrics.jsonl", [(1, {"step": 0, "loss": float("nan"), "trained_tokens": 70})])
        if lines:
            add_rollouts(session, name, "rollouts.jsonl", list(enumerate(lines)))
        set_progress(session, name, {"run": {"cost": 1.25, "currency": "USD"}})
        finish(session, name, "JOB_STATE_COMPLETED", {"code": "OK", "message": ""})
        job = session.get_one(Job, name)
        job.started = (job.completed or 0) - 30
    return name


def test_jobs_side_by_side(platform: Platform) -> None:
    make(platform, "a")
    make(platform, "b", learning_rate=2e-3, stop=["x"], evaluator_version=4)
    found = platform.ok("GET", f"{JOBS}:compare", params={"job": ["b", "accounts/local/reinforcementFineTuningJobs/a"]})
    assert [each["job"]["name"][-1] for each in found["jobs"]] == ["b", "a"]
    assert found["differences"] == [
        {"field": "evaluatorVersion", "values": [4, 1]},
        {"field": "trainingConfig.learningRate", "values": [2e-3, 1e-3]},
    ]
    first = found["jobs"][0]
    assert first["curve"] == [{"step": 0, "chunk": 0, "meanScore": 0.5}, {"step": 1, "chunk": 1, "meanScore": None}]
    assert first["heldOut"] == [{"step": 1, "score": 0.6, "low": 0.5, "high": 0.7}]
    assert (first["seconds"], first["trainedTokens"], first["sampledTokens"]) == (30.0, 70, 60)
    assert first["cost"] == {"amount": 1.25, "currency": "USD"}


def test_what_cannot_be_compared(platform: Platform) -> None:
    make(platform, "a")
    assert "2 to 8" in platform.fails(400, "GET", f"{JOBS}:compare", params={"job": ["a", "a"]})
    platform.fails(400, "GET", f"{JOBS}:compare")
    platform.fails(400, "GET", f"{JOBS}:compare", params={"job": [f"j{n}" for n in range(9)]})
    platform.fails(404, "GET", f"{JOBS}:compare", params={"job": ["a", "none"]})


def test_rollouts_as_a_download(platform: Platform) -> None:
    make(platform, "a", rollouts=ROLLOUTS_AT_ONCE * 2 + 1)
    answer = platform.call("GET", f"{JOBS}/a/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="a-rollouts.jsonl"'
    records = [json.loads(text) for text in answer.text.splitlines()]
    assert [record["rolloutId"] for record in records] == [f"a-{n}" for n in range(ROLLOUTS_AT_ONCE * 2 + 1)]
    assert records[0]["row"]["messages"][1]["content"] == "What is 0 + 0?"
    assert platform.ok("GET", f"{JOBS}/a/export?format=json") == records
    table = list(csv.DictReader(io.StringIO(platform.call("GET", f"{JOBS}/a/export?format=csv").text)))
    assert [row["rolloutId"] for row in table] == [record["rolloutId"] for record in records]
    assert (table[0]["score"], table[0]["metrics.exact"], table[0]["status"]) == ("0.0", "0.0", "100")
    assert table[1]["reason"] == f"'{HOSTILE}"


def test_metrics_as_a_download(platform: Platform) -> None:
    make(platform, "a")
    records = platform.ok("GET", f"{JOBS}/a/export?what=metrics&format=json")
    assert [(record["chunk"], record["mean_score"]) for record in records] == [(0, 0.5), (1, None)]
    assert (records[0]["learner.trained_tokens"], records[0]["learner.loss"], records[0]["metrics.exact"]) == (
        70,
        None,
        0.25,
    )
    assert not [name for name in records[1] if name.startswith("learner.")], "it took no step"
    table = list(csv.DictReader(io.StringIO(platform.call("GET", f"{JOBS}/a/export?what=metrics&format=csv").text)))
    assert [row["learner.trained_tokens"] for row in table] == ["70", ""]


def test_a_download_of_nothing_is_an_error(platform: Platform) -> None:
    platform.fails(404, "GET", f"{JOBS}/none/export")
    make(platform, "a", rollouts=0)
    assert platform.call("GET", f"{JOBS}/a/export").text == ""
    assert platform.ok("GET", f"{JOBS}/a/export?format=json") == []
    platform.fails(400, "GET", f"{JOBS}/a/export?format=xlsx")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1"])
def test_a_spreadsheet_runs_nothing(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_other_cells_stay_as_they_are() -> None:
    assert [safe_cell(value) for value in ("a=1", "", -1, -0.5, None, True)] == ["a=1", "", -1, -0.5, None, True]
    assert safe_cell({"a": 1}) == '{"a": 1}'
