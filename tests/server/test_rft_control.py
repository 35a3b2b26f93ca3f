"""Steering a running RFT job through the API: what is asked for adds up, what cannot be is refused; a rewind is a new job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.db.jobs import claim, finish, set_progress
from tunesmith.db.session import reading
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.runs.control import Asked
from tunesmith.runs.files import adapter_path, checkpoint_path
from tunesmith.schemas.rft_spec import RftSpec

from tests.server.conftest import BASE_MODEL, Platform

JOBS = "/reinforcementFineTuningJobs"
NAME = "accounts/local/reinforcementFineTuningJobs/first"
BODY = {
    "dataset": "accounts/local/datasets/d",
    "evaluator": "accounts/local/evaluators/e",
    "trainingConfig": {"baseModel": BASE_MODEL},
}


@pytest.fixture
def running(platform: Platform) -> Platform:
    platform.dataset("d")
    evaluator = platform.evaluator("e")
    with platform.control.sessions.begin() as session:
        for version, state, message in (
            (2, "ACTIVE", ""),
            (4, "BUILD_FAILED", "SyntaxError: line 3"),
            (5, "BUILDING", ""),
        ):
            session.add(
                EvaluatorVersion(
                    name=f"{evaluator}/versions/{version}",
                    evaluator=evaluator,
                    version=version,
                    archive_key="x",
                    entry_point="other.py::g" if version == 2 else "",
                    state=state,
                    status={"code": "OK", "message": message},
                    build_dir="/built/2" if state == "ACTIVE" else None,
                )
            )
    platform.ok("POST", f"{JOBS}?reinforcementFineTuningJobId=first", json=BODY)
    return platform


def asked(platform: Platform) -> Asked:
    with reading(platform.control.sessions) as session:
        return Asked.model_validate(session.get_one(Job, NAME).control)


def control(platform: Platform, **wishes: Any) -> dict[str, Any]:
    return platform.ok("POST", f"{JOBS}/first:control", json=wishes)["control"]["requested"]


def run_dir(platform: Platform, versions: tuple[int, ...] = (1, 3)) -> Path:
    """A run directory as orchestrator and learner leave it, as far as a rewind looks at it."""
    folder = platform.control.settings.path("runs", "first", "run.json").parent
    for version in range(5):
        adapter_path(folder, version).mkdir(parents=True)
    for version in versions:
        checkpoint_path(folder, version).mkdir(parents=True)
        (checkpoint_path(folder, version) / "state.safetensors").write_text(f"state {version}")
    chunks = [
        {
            "kind": "chunk",
            "chunk": s,
            "step": s,
            "sealed": 1,
            "evaluator_version": 3 if s < 2 else 2,
            "learning_rate": r,
        }
        for s, r in enumerate((1e-3, 1e-3, 2e-3, 2e-3))
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chunks))
    return folder


def test_wishes_add_up_and_each_counts_once(running: Platform) -> None:
    assert control(running, paused=True) == {
        "revision": 1,
        "paused": True,
        "steps": None,
        "learningRate": None,
        "evaluatorVersion": None,
        "autoEvaluatorVersion": False,
    }
    assert control(running, learningRate=2e-3)["paused"] is True
    stepped = control(running, steps=3)
    assert (stepped["paused"], stepped["steps"], stepped["learningRate"]) == (False, 3, 2e-3)
    assert asked(running).steps_revision == 3
    control(running, learningRate=None)
    assert (asked(running).learning_rate, asked(running).steps_revision, asked(running).revision) == (None, 3, 4)
    assert control(running, paused=False)["steps"] is None
    assert control(running, autoEvaluatorVersion=True)["autoEvaluatorVersion"] is True
    pinned = control(running, evaluatorVersion=2)
    assert (pinned["evaluatorVersion"], pinned["autoEvaluatorVersion"]) == (2, False)
    assert control(running, evaluatorVersion=None)["evaluatorVersion"] is None


def test_what_is_in_force_is_what_the_run_says(running: Platform) -> None:
    assert running.ok("GET", f"{JOBS}/first")["control"]["inForce"] is None
    said = {"step": 4, "paused": True, "learning_rate": 1e-3, "evaluator_version": 3, "revision": 2, "message": "no"}
    with running.control.sessions.begin() as session:
        set_progress(session, NAME, {"percent": 1, "epoch": 0, "run": {"control": said}, "checkpoints": [0, 2]})
    job = running.ok("GET", f"{JOBS}/first")
    assert job["control"]["inForce"] == {
        "step": 4,
        "paused": True,
        "learningRate": 1e-3,
        "evaluatorVersion": 3,
        "revision": 2,
        "message": "no",
    }
    assert job["checkpoints"] == [0, 2]


@pytest.mark.parametrize(
    ("wishes", "status", "said"),
    [
        ({}, 400, "at least one of"),
        ({"paused": True, "steps": 2}, 400, "leave paused out"),
        ({"steps": 0}, 400, "steps"),
        ({"learningRate": 0.5}, 400, "outside valid range"),
        ({"learningRate": -1}, 400, "outside valid range"),
        ({"evaluatorVersion": 9}, 404, "no version 9"),
        ({"evaluatorVersion": 4}, 400, "BUILD_FAILED: SyntaxError: line 3"),
        ({"evaluatorVersion": 5}, 400, "BUILDING: its build has not ended"),
        ({"evaluatorVersion": 2, "autoEvaluatorVersion": True}, 400, "autoEvaluatorVersion"),
        ({"temperature": 1}, 400, "temperature"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(running: Platform, wishes: dict, status: int, said: str) -> None:
    assert said in running.fails(status, "POST", f"{JOBS}/first:control", json=wishes)
    assert asked(running) == Asked()


def test_an_ended_job_cannot_be_controlled(running: Platform) -> None:
    with running.control.sessions.begin() as session:
        assert claim(session, "w", ["rft"], 30)
        finish(session, NAME, "JOB_STATE_COMPLETED", {"code": "OK", "message": ""})
    assert "Rewind it" in running.fails(400, "POST", f"{JOBS}/first:control", json={"paused": True})


def test_a_rewind_is_a_job_that_begins_with_what_was_in_force(running: Platform) -> None:
    source = run_dir(running)
    control(running, autoEvaluatorVersion=True)
    path = f"{JOBS}/first:rewind?reinforcementFineTuningJobId=again"
    made = running.ok("POST", path, json={"version": 3})
    assert (made["rewoundFrom"], made["rewoundTo"]) == (NAME, 3)
    assert made["evaluatorVersion"] == 2
    assert made["trainingConfig"]["outputModel"] == "accounts/local/models/again"
    assert made["control"]["requested"]["autoEvaluatorVersion"] is True
    assert made["control"]["requested"]["learningRate"] == 2e-3
    with reading(running.control.sessions) as session:
        spec = RftSpec.model_validate(session.get_one(Job, made["name"]).spec)
        assert (spec.evaluator_dir, spec.entry_point) == ("/built/2", "other.py::g")
        assert session.get_one(Job, NAME).state == "JOB_STATE_CANCELLED"
    held = checkpoint_path(source.parent / "again", 3) / "state.safetensors"
    assert held.read_text() == "state 3"
    assert held.samefile(checkpoint_path(source, 3) / "state.safetensors")
    assert running.ok("POST", path, json={"version": 3})["name"] == made["name"]
    assert "exists already" in running.fails(409, "POST", path, json={"version": 1})


def test_only_kept_versions_can_be_rewound_to_and_the_error_names_them(running: Platform) -> None:
    run_dir(running)
    said = running.fails(400, "POST", f"{JOBS}/first:rewind?reinforcementFineTuningJobId=again", json={"version": 2})
    assert "those of 0, 1, 3." in said
    with reading(running.control.sessions) as session:
        assert session.get_one(Job, NAME).state == "JOB_STATE_PENDING"
        assert session.get(Job, NAME.replace("first", "again")) is None
    assert not checkpoint_path(running.control.settings.path("runs", "again"), 2).exists()


def test_a_job_that_has_not_begun_cannot_be_rewound(running: Platform) -> None:
    assert "There is none yet" in running.fails(400, "POST", f"{JOBS}/first:rewind", json={"version": 0})
    assert running.fails(404, "POST", f"{JOBS}/nobody:rewind", json={"version": 0})


def test_held_out_rows_may_be_scored_at_every_step_and_all_checkpoints_kept(running: Platform) -> None:
    more = {"evaluationEverySteps": 1, "keepAllCheckpoints": True, "evalAutoCarveout": True}
    job = running.ok("POST", f"{JOBS}?reinforcementFineTuningJobId=second", json={**BODY, **more})
    assert (job["evaluationEverySteps"], job["keepAllCheckpoints"]) == (1, True)
    refused = running.fails(400, "POST", JOBS, json={**BODY, "evaluationEverySteps": 1})
    assert "no effect without held-out rows" in refused
    assert "at least 1" in running.fails(400, "POST", JOBS, json={**BODY, **more, "evaluationEverySteps": 0})
