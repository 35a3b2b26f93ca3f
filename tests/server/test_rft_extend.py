"""An ended RFT job taken further: more epochs in a new job, another version as its model; and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from tunesmith.cli import job as job_command
from tunesmith.db.jobs import CANCELLED, COMPLETED, EARLY_STOPPED, FAILED
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.runs.files import adapter_path, checkpoint_path
from tunesmith.schemas.rft_spec import RftSpec

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_control import JOBS, NAME, run_dir, running

__all__ = ["running"]


@pytest.fixture
def ended(running: Platform) -> Platform:
    """The job `first` with five adapters, ended well."""
    folder = run_dir(running, (3, 4))
    for version in range(5):
        weights = f"weights {version}".encode()
        (adapter_path(folder, version) / "adapter_model.safetensors").write_bytes(weights)
        (adapter_path(folder, version) / "adapter_config.json").write_text('{"r": 16}')
        said = {"sha256": hashlib.sha256(weights).hexdigest()}
        (adapter_path(folder, version) / "canary.json").write_text(json.dumps(said))
    base = {"name": BASE_MODEL, "path": "/base"}
    config = {"job": "first", "base_model": base, "dataset": "/d", "gateway_url": "http://g", "host_socket": "/h"}
    (folder / "run.json").write_text(json.dumps(config))
    put(running, COMPLETED)
    return running


def put(platform: Platform, state: str) -> None:
    with platform.control.sessions.begin() as session:
        session.get_one(Job, NAME).state = state


def promote(platform: Platform, **body: Any) -> dict[str, Any]:
    return platform.ok("POST", f"{JOBS}/first:promote", json=body)


def weights(platform: Platform, model: str) -> bytes:
    urls = platform.ok("GET", f"/models/{model}:getDownloadEndpoint")["filenameToSignedUrls"]
    return httpx2.get(urls["adapter_model.safetensors"]).content


def test_an_extension_begins_at_the_last_version_with_more_epochs(ended: Platform) -> None:
    path = f"{JOBS}/first:extend?reinforcementFineTuningJobId=longer"
    made = ended.ok("POST", path, json={"epochs": 2, "displayName": "longer"})
    assert (made["rewoundFrom"], made["rewoundTo"], made["trainingConfig"]["epochs"]) == (NAME, 4, 3)
    assert made["trainingConfig"]["outputModel"] == "accounts/local/models/longer"
    assert (made["displayName"], made["evaluatorVersion"]) == ("longer", 2)
    assert made["control"]["requested"]["learningRate"] == 2e-3
    with reading(ended.control.sessions) as session:
        spec = RftSpec.model_validate(session.get_one(Job, made["name"]).spec)
        assert (spec.epochs, spec.request["trainingConfig"]["epochs"]) == (3, 3)
        assert session.get_one(Job, NAME).state == COMPLETED
    held = checkpoint_path(ended.control.settings.data_dir / "runs" / "longer", 4) / "state.safetensors"
    assert held.read_text() == "state 4"
    assert ended.ok("POST", path, json={"epochs": 2})["name"] == made["name"], "asked twice, made once"
    assert "exists already" in ended.fails(409, "POST", path, json={"epochs": 1})
    rewind = f"{JOBS}/first:rewind?reinforcementFineTuningJobId=longer"
    assert "exists already" in ended.fails(409, "POST", rewind, json={"version": 4}), "a rewind has no more epochs"
    other = f"{JOBS}/first:extend?reinforcementFineTuningJobId=other"
    named = ended.ok("POST", other, json={"epochs": 1, "outputModel": "mine"})
    assert named["trainingConfig"]["outputModel"] == "accounts/local/models/mine"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("JOB_STATE_RUNNING", "has not ended"),
        (EARLY_STOPPED, "no row's rollouts differed"),
        (FAILED, "resume it, then extend"),
    ],
)
def test_what_more_epochs_would_not_help_is_refused(ended: Platform, state: str, said: str) -> None:
    put(ended, state)
    assert said in ended.fails(400, "POST", f"{JOBS}/first:extend", json={"epochs": 1})


def test_a_cancelled_job_can_be_extended_and_too_many_epochs_cannot(ended: Platform) -> None:
    put(ended, CANCELLED)
    assert ended.ok("POST", f"{JOBS}/first:extend", json={"epochs": 1})["rewoundTo"] == 4
    said = ended.fails(400, "POST", f"{JOBS}/first:extend", json={"epochs": 10})
    assert "Epochs 11 outside valid range [1, 10]" in said
    assert ended.fails(404, "POST", f"{JOBS}/nobody:extend", json={"epochs": 1})


def test_another_version_takes_the_model_s_place(ended: Platform) -> None:
    with ended.control.sessions.begin() as session:
        job = session.get_one(Job, NAME)
        served = "accounts/local/models/first serves policy version 3 of 4."
        job.status, job.progress = (
            {"code": "OK", "message": f"Stopped early: idle. {served}"},
            {"run": {"optimizer_steps": 4, "message": "idle"}},
        )
    first = promote(ended, version=4)
    assert first["model"] == "accounts/local/models/first"
    assert weights(ended, "first") == b"weights 4"
    again = promote(ended, version=2)
    assert (again["model"], again["sha256"]) == (first["model"], hashlib.sha256(b"weights 2").hexdigest())
    assert weights(ended, "first") == b"weights 2"
    with reading(ended.control.sessions) as session:
        model = session.get_one(Model, first["model"])
        assert (model.job, model.base_model, model.details["version"]) == (NAME, BASE_MODEL, 2)
    kept = [*ended.control.settings.path("objects", "models", "local", "x").parent.iterdir()]
    assert [path.name for path in kept] == [Path(model.adapter_path).name], "the replaced weights are gone"
    assert again["versionBefore"] == 4
    assert promote(ended, version=2) == {**again, "versionBefore": 2}
    said = ended.ok("GET", f"{JOBS}/first")["status"]["message"]
    assert said == "Stopped early: idle. accounts/local/models/first serves policy version 2 of 4, promoted by hand."
    promote(ended, version=1, model="at-one")
    assert ended.ok("GET", f"{JOBS}/first")["status"]["message"] == said, "the job's own model is as it was"
    assert (weights(ended, "at-one"), weights(ended, "first")) == (b"weights 1", b"weights 2")
    ended.ok("DELETE", "/models/first")
    assert [path.name.split("@")[0] for path in kept[0].parent.iterdir()] == ["at-one"]


@pytest.mark.parametrize("state", [CANCELLED, FAILED])
def test_what_a_job_says_of_its_end_stays_whatever_is_promoted(ended: Platform, state: str) -> None:
    ending = "It broke: accounts/local/models/first serves policy version 3. Stopped."
    with ended.control.sessions.begin() as session:
        job = session.get_one(Job, NAME)
        job.state, job.status = state, {"code": "FAILED_PRECONDITION", "message": ending}
    for version in (4, 2):
        promote(ended, version=version)
        served = f"accounts/local/models/first serves policy version {version}, promoted by hand."
        status = {"code": "FAILED_PRECONDITION", "message": f"{ending} {served}"}
        assert ended.ok("GET", f"{JOBS}/first")["status"] == status


def test_what_cannot_be_promoted_says_why(ended: Platform) -> None:
    path = f"{JOBS}/first:promote"
    assert "There are 0 to 4." in ended.fails(404, "POST", path, json={"version": 9})
    assert "version" in ended.fails(400, "POST", path, json={"version": -1})
    with ended.control.sessions.begin() as session:
        session.add(
            Model(
                name="accounts/local/models/taken",
                account="accounts/local",
                base_model="b",
                adapter_path="/x",
                sha256="ab",
            )
        )
    assert "made by hand" in ended.fails(409, "POST", path, json={"version": 1, "model": "taken"})
    assert "policy version of the job first" in ended.fails(409, "POST", path, json={"version": 1, "model": "first-v7"})
    put(ended, "JOB_STATE_RUNNING")
    assert "its end decides" in ended.fails(400, "POST", path, json={"version": 1})
    assert promote(ended, version=1, model="early")["version"] == 1


@pytest.mark.parametrize(("action", "body"), [("extend", {"epochs": 1}), ("promote", {"version": 0})])
def test_a_preflight_has_nothing_to_take_further(ended: Platform, action: str, body: dict[str, Any]) -> None:
    with ended.control.sessions.begin() as session:
        job = session.get_one(Job, NAME)
        job.spec = {**job.spec, "preflight_only": True}
    assert "is a preflight" in ended.fails(400, "POST", f"{JOBS}/first:{action}", json=body)


def test_both_from_the_command_line(ended: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": ended.url, "api_key": ended.key, "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(job_command.command, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    assert said("promote", "first", "--step", "3", "--as", "third") == (
        "accounts/local/models/third serves policy version 3 of first.\n"
    )
    assert said("promote", "first", "--step", "0", "--as", "third") == (
        "accounts/local/models/third serves policy version 0 of first in place of version 3.\n"
        "Version 0 is the adapter before the first optimizer step: it has learned nothing in this job.\n"
        "Back: tunesmith job promote first --step 3 --as third\n"
    )
    assert "serves policy version 3 of first in place of version 0." in said(
        "promote", "first", "--step", "3", "--as", "third"
    )
    assert said("promote", "first", "--step", "3", "--as", "third").endswith("version 3 of first, as before.\n")
    assert said("extend", "first", "--job-id", "more") == "Started more; see `tunesmith rftj get more`.\n"
    assert json.loads(said("extend", NAME, "--epochs", "2", "--json"))["trainingConfig"]["epochs"] == 3
