"""Deployments over REST: made, scaled, changed, refused; the model they serve stays where it is."""

from __future__ import annotations

from typing import Any

from tunesmith.db import deployments, jobs
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model

from tests.server.conftest import BASE_MODEL, Platform

NAME = "accounts/local/deployments/prod"


def _model(platform: Platform, id: str = "mine", account: str = "accounts/local") -> str:
    name = f"{account}/models/{id}"
    with platform.control.sessions.begin() as session:
        row = Model(
            name=name, account="accounts/local", base_model=BASE_MODEL, adapter_path="/nowhere", sha256="0" * 64
        )
        session.add(row)
    return name


def _create(platform: Platform, id: str = "prod", **body: Any) -> dict[str, Any]:
    return platform.ok("POST", f"/deployments?deploymentId={id}", json={"baseModel": BASE_MODEL, **body})


def _job(platform: Platform, name: str = NAME) -> Job | None:
    with reading(platform.control.sessions) as session:
        return session.get(Job, name)


def _load(platform: Platform, state: str = deployments.READY, message: str = "") -> None:
    """What the worker does when the engine has answered."""
    with platform.control.sessions.begin() as session:
        job = jobs.claim(session, "worker", [deployments.KIND], 30)
        assert job is not None
        status = {"code": "OK" if state == deployments.READY else "NOT_FOUND", "message": message}
        end = jobs.COMPLETED if state == deployments.READY else jobs.FAILED
        assert jobs.finish(session, job.name, end, status, owner="worker")
        deployments.settle_load(session, job.name, job.spec["base_model"], state, status)


def test_from_creating_to_ready(platform: Platform) -> None:
    made = _create(platform, displayName="Production", acceleratorType="NVIDIA_H100_80GB", minReplicaCount=1)
    assert (made["name"], made["state"], made["baseModel"]) == (NAME, "CREATING", BASE_MODEL)
    assert (made["replicaCount"], made["desiredReplicaCount"], made["displayName"]) == (0, 1, "Production")
    assert [note["option"] for note in made["notes"]] == ["acceleratorType"]
    again = _create(platform, displayName="Production", acceleratorType="NVIDIA_H100_80GB", minReplicaCount=1)
    assert again == made
    assert "prod" in platform.fails(409, "POST", "/deployments?deploymentId=prod", json={"baseModel": BASE_MODEL})
    _load(platform)
    ready = platform.ok("GET", "/deployments/prod")
    assert (ready["state"], ready["replicaCount"], ready["replicaStats"]["readyReplicaCount"]) == ("READY", 1, 1)
    assert platform.ok("GET", f'/deployments?filter=baseModel="{BASE_MODEL}"')["deployments"] == [ready]


def test_a_failed_one_says_why_and_may_be_tried_again(platform: Platform) -> None:
    _create(platform)
    _load(platform, deployments.FAILED, "its weights are gone")
    failed = platform.ok("GET", "/deployments/prod")
    assert (failed["state"], failed["status"]["message"]) == ("FAILED", "its weights are gone")
    platform.ok("PATCH", "/deployments/prod:scale", json={"replicaCount": 1})
    _load(platform)
    assert platform.ok("GET", "/deployments/prod")["state"] == "READY"


def test_what_is_ready_is_loaded_again_after_a_start(platform: Platform) -> None:
    _create(platform)
    _create(platform, "idle", maxReplicaCount=0)
    _load(platform)
    with platform.control.sessions.begin() as session:
        deployments.load_again(session)
    assert platform.ok("GET", "/deployments/prod")["state"] == "READY"
    assert _job(platform, "accounts/local/deployments/idle") is None
    _load(platform, deployments.FAILED, "its weights are gone")
    assert platform.ok("GET", "/deployments/prod")["state"] == "FAILED"


def test_to_zero_and_back(platform: Platform) -> None:
    _create(platform)
    _load(platform)
    assert platform.ok("PATCH", "/deployments/prod:scale", json={"replicaCount": 0}) == {}
    idle = platform.ok("GET", "/deployments/prod")
    assert (idle["state"], idle["replicaCount"], idle["desiredReplicaCount"]) == ("READY", 0, 0)
    assert _job(platform) is None
    platform.ok("PATCH", "/deployments/prod:scale", json={"replicaCount": 1})
    assert platform.ok("GET", "/deployments/prod")["state"] == "UPDATING"
    _load(platform)
    assert platform.ok("GET", "/deployments/prod")["replicaCount"] == 1


def test_pointed_at_another_model_it_loads_that(platform: Platform) -> None:
    _create(platform)
    with platform.control.sessions.begin() as session:
        assert jobs.claim(session, "worker", [deployments.KIND], 30) is not None
    model = _model(platform)
    changed = platform.ok("PATCH", "/deployments/prod", json={"baseModel": model, "description": "new"})
    assert (changed["baseModel"], changed["state"], changed["description"]) == (model, "UPDATING", "new")
    with platform.control.sessions.begin() as session:  # what the first worker found out counts for nothing
        deployments.settle_load(session, NAME, BASE_MODEL, deployments.READY, {"code": "OK", "message": ""})
    assert platform.ok("GET", "/deployments/prod")["state"] == "UPDATING"
    _load(platform)
    assert platform.ok("GET", "/deployments/prod")["state"] == "READY"


def test_a_deployed_model_cannot_be_deleted_and_outlives_its_deployment(platform: Platform) -> None:
    model = _model(platform)
    _create(platform, baseModel="mine")
    _load(platform)
    assert NAME in platform.fails(400, "DELETE", "/models/mine")
    assert platform.ok("DELETE", "/deployments/prod") == {}
    assert _job(platform) is None
    platform.fails(404, "GET", "/deployments/prod")
    platform.fails(404, "DELETE", "/deployments/prod")
    assert platform.ok("GET", "/models/mine")["name"] == model
    _create(platform)
    assert _job(platform) is not None


def test_a_dry_run_keeps_nothing(platform: Platform) -> None:
    shown = platform.ok("POST", "/deployments?deploymentId=prod&validateOnly=true", json={"baseModel": BASE_MODEL})
    assert shown["name"] == NAME
    assert platform.ok("GET", "/deployments")["deployments"] == []
    assert _job(platform) is None


def test_what_cannot_be_deployed(platform: Platform) -> None:
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({}, 400, "baseModel"),
        ({"baseModel": "nothing"}, 404, "accounts/local/models/nothing"),
        ({"baseModel": "accounts/other/models/x"}, 404, "accounts/other/models/x"),
        ({"baseModel": BASE_MODEL, "maxReplicaCount": 2}, 400, "maxReplicaCount"),
        ({"baseModel": BASE_MODEL, "minReplicaCount": 1, "maxReplicaCount": 0}, 400, "minReplicaCount"),
        ({"baseModel": BASE_MODEL, "minReplicaCount": -1}, 400, "minReplicaCount"),
        ({"baseModel": BASE_MODEL, "draftModel": "x"}, 400, "draftModel"),
    ]
    for body, status, words in refused:
        assert words in platform.fails(status, "POST", "/deployments?deploymentId=prod", json=body)
    assert platform.ok("GET", "/deployments")["deployments"] == []
