"""The requests of the published client's `create rft`, in its order and shapes (docs of the wire contract, section 2)."""

from __future__ import annotations

import io
import tarfile

from tunesmith.db.jobs import claim
from tunesmith.db.session import reading
from tunesmith.db.tables import Evaluator, Job

from tests.server.conftest import ACCOUNT, BASE_MODEL, Platform, jsonl


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("proj/requirements.txt")
        tar.addfile(member, io.BytesIO())
    return buffer.getvalue()


def test_create_rft_from_key_to_job(platform: Platform):
    http = platform.http
    verified = http.get("/verifyApiKey", headers={"User-Agent": "eval-protocol/0.3.33"})
    assert (verified.status_code, verified.headers["x-fireworks-account-id"]) == (200, "local")

    # The dataset, in one multipart request.
    dataset = {"displayName": "gsm-dataset", "evalProtocol": {}, "format": "FORMAT_UNSPECIFIED", "exampleCount": "3"}
    created = http.post(f"{ACCOUNT}/datasets", json={"dataset": dataset, "datasetId": "gsm-dataset"})
    assert created.status_code in (200, 201)
    assert created.json() == {
        **{key: value for key, value in created.json().items() if key.endswith("Time")},
        **dataset,
        "name": "accounts/local/datasets/gsm-dataset",
        "state": "UPLOADING",
        "status": {"code": "OK", "message": "Waiting for its rows."},
        "createdBy": "",
    }
    uploaded = http.post(f"{ACCOUNT}/datasets/gsm-dataset:upload", files={"file": ("rows.jsonl", jsonl(), None)})
    assert uploaded.status_code in (200, 201)
    assert uploaded.json()["object"] == "file"
    shown = platform.ok("GET", "/datasets/gsm-dataset")
    assert (shown["state"], shown["exampleCount"], shown["evalProtocol"]) == ("READY", "3", {})

    # Secrets.
    assert http.get(f"{ACCOUNT}/secrets/fireworks-api-key").status_code == 404
    secret = platform.ok(
        "POST", "/secrets", json={"keyName": "FIREWORKS_API_KEY", "name": "fireworks-api-key", "value": "fw_1"}
    )
    assert secret["name"] == "accounts/local/secrets/fireworks-api-key"
    patched = platform.ok("PATCH", "/secrets/fireworks-api-key", json={"keyName": "FIREWORKS_API_KEY", "value": "fw_2"})
    assert patched["keyName"] == "FIREWORKS_API_KEY"
    assert "fw_" not in str(patched) + str(secret)

    # The evaluator: create, upload by signed URL, validate, poll.
    assert http.get(f"{ACCOUNT}/evaluators/evaluation-f").status_code == 404
    evaluator = {
        "displayName": "e",
        "description": "Evaluator for m.f",
        "commitHash": "x",
        "entryPoint": "evaluation.py::f",
    }
    body = {"evaluator": evaluator, "evaluatorId": "evaluation-f"}
    assert platform.ok("POST", "/evaluatorsV2", json=body)["state"] == "BUILDING"
    assert platform.ok("POST", "/evaluatorsV2", json=body)["name"] == "accounts/local/evaluators/evaluation-f"
    archive = _archive()
    sizes = {"proj.tar.gz": str(len(archive))}
    urls = platform.ok("POST", "/evaluators/evaluation-f:getUploadEndpoint", json={"filenameToSize": sizes})
    url = urls["filenameToSignedUrls"]["proj.tar.gz"]
    assert url.startswith(platform.url)
    del http.headers["Authorization"]
    size = str(len(archive))
    headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
    assert http.put(url, content=archive, headers=headers).status_code == 200
    http.headers["Authorization"] = f"Bearer {platform.key}"
    assert platform.ok("POST", "/evaluators/evaluation-f:validateUpload", json={}) == {}
    assert platform.ok("POST", "/evaluators/evaluation-f:validateUpload", json={}) == {}
    polled = platform.ok("GET", "/evaluators/evaluation-f")
    assert (polled["state"], polled["status"]["code"]) == ("BUILDING", "OK")

    # What the jobs worker finds, and does.
    with platform.control.sessions.begin() as session:
        job = claim(session, "worker", ["evaluator_build"], 30)
        assert job is not None
        assert claim(session, "worker-2", ["evaluator_build"], 30) is None
        assert job.spec["evaluator"] == "accounts/local/evaluators/evaluation-f"
        assert platform.control.objects.read(job.spec["archive_key"]) == archive
        row = session.get_one(Evaluator, job.spec["evaluator"])
        row.state, row.build_dir = "ACTIVE", "/built"

    # The job, with the client's constants.
    minimal = {
        "dataset": "accounts/local/datasets/gsm-dataset",
        "evaluator": "accounts/local/evaluators/evaluation-f",
        "evalAutoCarveout": False,
        "wandbConfig": {"enabled": False},
        "trainingConfig": {"baseModel": BASE_MODEL},
    }
    created = platform.ok("POST", "/reinforcementFineTuningJobs", json=minimal)
    assert created["name"].startswith("accounts/local/reinforcementFineTuningJobs/rft-")
    assert created["state"] == "JOB_STATE_PENDING"
    with reading(platform.control.sessions) as session:
        spec = session.get_one(Job, created["name"]).spec
    assert (spec["evaluator_version"], spec["evaluator_dir"], spec["example_count"]) == (1, "/built", 3)

    # The links that it prints.
    for link in (
        "/dashboard/evaluators/evaluation-f",
        "/dashboard/datasets/gsm-dataset",
        f"/dashboard/fine-tuning/reinforcement/{created['name'].split('/')[-1]}",
    ):
        assert http.get(link).status_code == 200


def test_force_deletes_and_creates_anew_with_a_higher_version(platform: Platform):
    platform.evaluator("old")
    body = {"evaluator": {"entryPoint": "other.py::g"}, "evaluatorId": "old"}
    response = platform.call("POST", "/evaluatorsV2", json=body)
    assert (response.status_code, response.headers["x-should-retry"]) == (409, "false")
    assert platform.ok("DELETE", "/evaluators/old", headers={"Content-Type": "application/json"}) == {}
    assert platform.call("DELETE", "/evaluators/old").status_code == 404
    versions = []
    for _ in range(2):
        platform.ok("POST", "/evaluatorsV2", json=body)
        urls = platform.ok("POST", "/evaluators/old:getUploadEndpoint", json={"filenameToSize": {"a.tar.gz": "3"}})
        assert platform.http.put(urls["filenameToSignedUrls"]["a.tar.gz"], content=b"abc").status_code == 200
        platform.ok("POST", "/evaluators/old:validateUpload", json={})
        versions.append(platform.ok("GET", "/evaluators/old")["version"])
        platform.ok("DELETE", "/evaluators/old")
    assert versions == [1, 2]
    with reading(platform.control.sessions) as session:
        builds = session.query(Job).where(Job.kind == "evaluator_build").order_by(Job.name).all()
        assert [(build.name[-8:], build.state) for build in builds] == [
            ("builds/1", "JOB_STATE_CANCELLED"),
            ("builds/2", "JOB_STATE_CANCELLED"),
        ]


def test_results_of_a_local_evaluation_are_kept(platform: Platform):
    platform.dataset("f-experiment")
    record = {
        "evaluator": "accounts/local/evaluators/dummy",
        "inputDataset": "accounts/local/datasets/dummy",
        "outputDataset": "accounts/local/datasets/f-experiment",
    }
    body = {"evaluationJobId": "f-experiment-job", "evaluationJob": record}
    first = platform.ok("POST", "/evaluationJobs", json=body)
    assert first["name"] == "accounts/local/evaluationJobs/f-experiment-job"
    assert platform.ok("POST", "/evaluationJobs", json=body) == first
    assert platform.ok("GET", "/evaluationJobs/f-experiment-job") == first
    assert platform.ok("GET", "/evaluationJobs")["evaluationJobs"] == [first]
    body["evaluationJob"] = {**record, "displayName": "other"}
    assert "exists already" in platform.fails(409, "POST", "/evaluationJobs", json=body)
    platform.ok("DELETE", "/evaluationJobs/f-experiment-job")
    platform.fails(404, "GET", "/evaluationJobs/f-experiment-job")
