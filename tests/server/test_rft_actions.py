"""Resume a failed job, clone one with changes: what is allowed, what is refused with what to do instead."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.db.jobs import claim, finish
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.routes.rft_actions import cloned_request

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_jobs import body

JOBS = "/reinforcementFineTuningJobs"
NAME = "accounts/local/reinforcementFineTuningJobs/first"


@pytest.fixture
def job(platform: Platform) -> Platform:
    platform.dataset("d")
    platform.dataset("held-out")
    platform.evaluator("e")
    request = body(displayName="Mine", trainingConfig={"learningRate": 2e-3, "outputModel": "mine"})
    platform.ok("POST", f"{JOBS}?reinforcementFineTuningJobId=first", json=request)
    return platform


def end(platform: Platform, state: str) -> None:
    with platform.control.sessions.begin() as session:
        claim(session, "worker", ["rft"], 60)
        assert finish(session, NAME, state, {"code": "FAILED_PRECONDITION", "message": "broken"})


def row(platform: Platform, name: str = NAME) -> Job:
    with reading(platform.control.sessions) as session:
        return session.get_one(Job, name)


def test_a_failed_job_is_queued_again(job: Platform) -> None:
    end(job, "JOB_STATE_FAILED")
    shown = job.ok("POST", f"{JOBS}/first:resume")
    assert (shown["state"], shown["status"]["code"]) == ("JOB_STATE_PENDING", "OK")
    assert "completedTime" not in shown
    found = row(job)
    assert (found.attempts, found.cancel_requested, found.lease_owner) == (0, False, None)
    first = found.progress["resumed"]
    with job.control.sessions.begin() as session:
        assert claim(session, "another", ["rft"], 60) is not None
    end_again(job)
    job.ok("POST", f"{JOBS}/first:resume")
    assert row(job).progress["resumed"] > first


def end_again(platform: Platform) -> None:
    with platform.control.sessions.begin() as session:
        finish(session, NAME, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "again"})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "has not ended"),
        ("JOB_STATE_CANCELLED", "Clone it"),
        ("JOB_STATE_COMPLETED", "Clone it"),
        ("JOB_STATE_EARLY_STOPPED", "Clone it"),
    ],
)
def test_others_are_refused_with_what_to_do(job: Platform, state: str | None, said: str) -> None:
    if state is not None:
        end(job, state)
    assert said in job.fails(400, "POST", f"{JOBS}/first:resume")
    job.fails(404, "POST", f"{JOBS}/none:resume")


def test_a_job_whose_model_somebody_else_made_is_not_resumed(job: Platform) -> None:
    end(job, "JOB_STATE_FAILED")
    with job.control.sessions.begin() as session:
        model = Model(name="accounts/local/models/mine", account="accounts/local", base_model=BASE_MODEL, job="other")
        model.adapter_path, model.sha256, model.details = "/x", "0", {}
        session.add(model)
    assert "accounts/local/models/mine" in job.fails(400, "POST", f"{JOBS}/first:resume")


def test_a_clone_is_the_same_job_with_changes(job: Platform) -> None:
    changes = {"chunkSize": 2, "trainingConfig": {"learningRate": 1e-4, "loraRank": 8}, "evaluationDataset": "held-out"}
    path = f"{JOBS}/first:clone?reinforcementFineTuningJobId=second"
    shown = job.ok("POST", path, json={"changes": changes, "displayName": "Yours"})
    assert shown == job.ok("POST", path, json={"changes": changes, "displayName": "Yours"}), "asked again, the same job"
    old, new = (RftSpec.model_validate(row(job, name).spec) for name in (NAME, shown["name"]))
    differences = {name for name in RftSpec.model_fields if getattr(old, name) != getattr(new, name)}
    assert differences == {
        "chunk_size", "learning_rate", "lora_rank", "evaluation_dataset", "output_model", "request",
    }  # fmt: skip
    assert (shown["displayName"], new.output_model) == ("Yours", "accounts/local/models/second")


def test_a_clone_is_checked_as_a_create_is(job: Platform) -> None:
    def refused(changes: dict[str, Any]) -> str:
        return job.fails(400, "POST", f"{JOBS}/first:clone", json={"changes": changes})

    assert "outside valid range" in refused({"trainingConfig": {"learningRate": 5}})
    assert "trainingConfig.color" in refused({"trainingConfig": {"color": "red"}})
    assert "chunkSize" in refused({"chunkSize": "many"})
    job.fails(404, "POST", f"{JOBS}/first:clone", json={"changes": {"dataset": "none"}})
    job.fails(404, "POST", f"{JOBS}/none:clone", json={})
    job.fails(400, "POST", f"{JOBS}/first:clone", json={"chunkSize": 2})


def test_what_makes_another_field_meaningless_takes_it_away() -> None:
    old = {"evalAutoCarveout": True, "trainingConfig": {"warmStartFrom": "m", "outputModel": "x", "epochs": 2}}
    new = cloned_request(old, {"evaluationDataset": "d", "trainingConfig": {"baseModel": "b", "epochs": None}})
    assert new == {"evaluationDataset": "d", "trainingConfig": {"baseModel": "b"}}
    assert cloned_request(old, {"evalAutoCarveout": None})["trainingConfig"] == {"warmStartFrom": "m", "epochs": 2}
    assert old["trainingConfig"]["epochs"] == 2
