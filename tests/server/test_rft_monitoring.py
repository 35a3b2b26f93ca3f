"""What a job has done: metrics, rollouts by the page, and a stream that goes on where it was cut."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx2
import pytest
from tunesmith.db.jobs import enqueue, finish, set_progress
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.schemas.rft_spec import RftSpec

from tests.server.conftest import ACCOUNT, Platform

NAME = "accounts/local/reinforcementFineTuningJobs/j"
PATH = "/reinforcementFineTuningJobs/j"


def spec() -> dict[str, Any]:
    return RftSpec(
        base_model="b",
        dataset="accounts/local/datasets/d",
        example_count=3,
        evaluator="accounts/local/evaluators/e",
        evaluator_version=1,
        evaluator_dir="/x",
        output_model="accounts/local/models/j",
        epochs=1,
        learning_rate=1e-3,
        lora_rank=8,
        n=2,
        chunk_size=None,
        temperature=1.0,
        max_tokens=16,
        request={},
    ).model_dump(mode="json")


def rollout(index: int, score: float | None, answer: str = "4") -> dict[str, Any]:
    return {
        "kind": "train",
        "step": index // 2,
        "epoch": 0,
        "row_index": index,
        "k": 0,
        "attempt": 0,
        "rollout_id": f"r{index}",
        "version": 0,
        "score": score,
        "is_score_valid": score is not None,
        "reason": "because",
        "row": {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": answer}]},
    }


@pytest.fixture
def running(platform: Platform) -> Platform:
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
        add_events(
            session, NAME, "events.jsonl", [(100, {"kind": "chunk", "mean_score": 0.25}), (200, {"kind": "version"})]
        )
        add_events(session, NAME, "metrics.jsonl", [(50, {"step": 0, "loss": 0.1})])
        add_rollouts(session, NAME, "rollouts.jsonl", [(i, rollout(i, None if i == 3 else i / 10)) for i in range(5)])
        set_progress(session, NAME, {"percent": 10, "run": {"step": 1}})
    return platform


def test_metrics_are_the_lines_of_the_run(running: Platform):
    body = running.ok("GET", f"{PATH}/metrics")
    assert body == {
        "name": NAME,
        "state": "JOB_STATE_RUNNING",
        "run": {"step": 1},
        "events": [{"kind": "chunk", "mean_score": 0.25}, {"kind": "version"}],
        "metrics": [{"step": 0, "loss": 0.1}],
    }
    running.fails(404, "GET", "/reinforcementFineTuningJobs/none/metrics")


def test_rollouts_come_by_the_page(running: Platform):
    first = running.ok("GET", f"{PATH}/rollouts", params={"pageSize": 3})
    second = running.ok("GET", f"{PATH}/rollouts", params={"pageSize": 3, "pageToken": first["nextPageToken"]})
    records = first["rollouts"] + second["rollouts"]
    assert [record["rowIndex"] for record in records] == [0, 1, 2, 3, 4]
    assert second["nextPageToken"] == ""
    assert (records[3]["score"], records[3]["isScoreValid"], records[3]["reason"]) == (None, False, "because")
    assert records[0]["row"]["messages"][1]["content"] == "4"
    step = running.ok("GET", f"{PATH}/rollouts", params={"step": 1})["rollouts"]
    assert [record["rowIndex"] for record in step] == [2, 3]
    best = running.ok("GET", f"{PATH}/rollouts", params={"orderBy": "score desc", "pageSize": 2})
    assert [record["score"] for record in best["rollouts"]] == [0.4, 0.2]
    rest = running.ok("GET", f"{PATH}/rollouts", params={"orderBy": "score desc", "pageToken": best["nextPageToken"]})
    assert [record["score"] for record in rest["rollouts"]] == [0.1, 0.0, None]
    kind = {"filter": 'kind = "evaluation"'}
    assert running.ok("GET", f"{PATH}/rollouts", params=kind)["rollouts"] == []


def _events(platform: Platform, last: str | None = None, stop_after: int | None = None) -> list[tuple[str, str, Any]]:
    headers = {"Authorization": f"Bearer {platform.key}", **({"Last-Event-ID": last} if last else {})}
    found: list[tuple[str, str, Any]] = []
    with httpx2.stream("GET", f"{platform.url}{ACCOUNT}{PATH}/events", headers=headers, timeout=20) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        block: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            if "event" in block:
                found.append((block["event"], block.get("id", ""), json.loads(block["data"])))
            block = {}
            if stop_after is not None and len(found) == stop_after:
                break
    return found


def test_the_stream_follows_to_the_end_and_resumes(running: Platform):
    cut = _events(running, stop_after=3)
    assert [(kind, position) for kind, position, _ in cut] == [
        ("events", "100.0"),
        ("events", "200.0"),
        ("metrics", "200.50"),
    ]
    resumed: list[tuple[str, str, Any]] = []
    thread = threading.Thread(target=lambda: resumed.extend(_events(running, last="100.0")))
    thread.start()
    time.sleep(0.7)
    with running.control.sessions.begin() as session:
        add_events(session, NAME, "metrics.jsonl", [(120, {"step": 1, "loss": 0.05})])
        finish(session, NAME, "JOB_STATE_COMPLETED", {"code": "OK", "message": ""})
    thread.join(10)
    kinds = [(kind, position) for kind, position, _ in resumed]
    assert kinds == [
        ("events", "200.0"),
        ("metrics", "200.50"),
        ("job", "200.50"),
        ("metrics", "200.120"),
        ("job", "200.120"),
        ("end", ""),
    ]
    assert (resumed[2][2]["state"], resumed[4][2]["state"]) == ("JOB_STATE_RUNNING", "JOB_STATE_COMPLETED")
    assert [kind for kind, _, _ in _events(running, last="200.120")] == ["job", "end"]


def test_a_diverged_run_is_still_json(running: Platform):
    with running.control.sessions.begin() as session:
        add_events(session, NAME, "metrics.jsonl", [(300, {"step": 2, "loss": float("nan")})])
        finish(session, NAME, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "diverged"})
    assert running.ok("GET", f"{PATH}/metrics")["metrics"][-1] == {"step": 2, "loss": None}
    assert ("metrics", "200.300", {"step": 2, "loss": None}) in _events(running, last="200.50")


def test_a_stream_of_nothing_is_an_error(running: Platform):
    running.fails(404, "GET", "/reinforcementFineTuningJobs/none/events")
    running.fails(400, "GET", f"{PATH}/events", headers={"Last-Event-ID": "x"})
    running.fails(401, "GET", f"{PATH}/events", headers={"Authorization": ""})
