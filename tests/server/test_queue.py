"""What every kind of job says of itself while it waits: who made it, its place in the queue, and what has to happen first."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.db.jobs import claim, set_progress
from tunesmith.db.tables import Job

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_tuning_jobs import CHAT, PAIR, rows
from tests.server.test_watch import watching

DATASET = "accounts/local/datasets/d"
CREATES: dict[str, dict[str, Any]] = {
    "supervisedFineTuningJobs?supervisedFineTuningJobId=ID": {"dataset": DATASET, "baseModel": BASE_MODEL},
    "dpoJobs?dpoJobId=ID": {"dataset": "pairs", "trainingConfig": {"baseModel": BASE_MODEL}},
    "reinforcementFineTuningJobs?reinforcementFineTuningJobId=ID": {
        "dataset": DATASET,
        "evaluator": "e",
        "trainingConfig": {"baseModel": BASE_MODEL},
    },
    "evaluationJobs": {
        "evaluationJobId": "ID",
        "evaluationJob": {"evaluator": "e", "inputDataset": "d", "outputDataset": "out-ID", "scoring": {}},
    },
}


@pytest.fixture
def ready(platform: Platform) -> Platform:
    platform.dataset("d", rows(CHAT))
    platform.dataset("pairs", rows(PAIR))
    platform.evaluator("e")
    return platform


def create(platform: Platform, path: str, identity: str, **options: Any) -> dict[str, Any]:
    body = CREATES[path]
    if "evaluationJobId" in body:
        job = {**body["evaluationJob"], "outputDataset": f"out-{identity}"}
        body = {"evaluationJobId": identity, "evaluationJob": job}
    return platform.ok("POST", f"/{path.replace('ID', identity)}" if "?" in path else f"/{path}", json=body, **options)


@pytest.mark.parametrize("path", CREATES)
def test_a_job_names_its_user_and_its_place(ready: Platform, path: str) -> None:
    ready.ok("POST", "/users?userId=ada", json={"role": "user"})
    key = ready.ok("POST", "/users/ada/apiKeys", json={"apiKey": {}})["key"]
    noun = path.partition("?")[0]
    first = create(ready, path, "first", headers={"Authorization": f"Bearer {key}"})
    create(ready, path, "second", headers={"Authorization": f"Bearer {key}"})
    assert first["createdBy"] == "accounts/local/users/ada"
    assert ready.ok("GET", f"/{noun}/first")["createdBy"] == "accounts/local/users/ada"
    listed = {job["name"].rsplit("/", 1)[1]: job["queue"] for job in ready.ok("GET", f"/{noun}")[noun]}
    assert {name: place["position"] for name, place in listed.items()} == {"first": 1, "second": 2}
    assert listed["second"]["waitingFor"] == "Waits for its turn: 1 before it."
    assert ready.ok("GET", f"/{noun}/second")["queue"] == listed["second"]
    with watching(ready, f"jobs/{first['name'].rsplit('/', 1)[0]}/second") as page:
        assert page.until("job")[0]["job"]["queue"] == listed["second"], "a page that watches is told, too"
    with ready.control.sessions.begin() as session:
        job = session.get_one(Job, first["name"])
        assert claim(session, "worker", [job.kind], 30, name=job.name)
    assert "queue" not in ready.ok("GET", f"/{noun}/first")
    assert ready.ok("GET", f"/{noun}/second")["queue"]["position"] == 1
    assert create(ready, path, "third")["createdBy"] == "", "the account's own key is nobody's"


@pytest.mark.parametrize("path", [path for path in CREATES if path[0] in "re"])
def test_a_job_whose_evaluator_is_not_fully_confined_says_so(ready: Platform, path: str) -> None:
    noun = path.partition("?")[0]
    job = create(ready, path, "first")
    assert ("sandbox" in job, job["notes"]) == (False, [])
    for degraded, notes in ((False, 0), (True, 1)):
        sandbox = {"kind": "landlock", "degraded": degraded, "reason": "Landlock only"}
        with ready.control.sessions.begin() as session:
            set_progress(session, job["name"], {"percent": 1, "sandbox": sandbox})
        found = ready.ok("GET", f"/{noun}/first")
        assert (found["sandbox"], len(found["notes"])) == (sandbox, notes)
    assert found["notes"][0]["reason"] == "The evaluator of this job is not fully confined: Landlock only."
