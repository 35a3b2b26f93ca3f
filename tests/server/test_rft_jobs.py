"""RFT jobs: every option is honoured, refused by name, or noted; defaults are filled in; a create is idempotent by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.db.jobs import claim, enqueue, finish, set_progress
from tunesmith.db.policies import put_policy
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.runs.config import LossMethod
from tunesmith.schemas.rft_spec import RftSpec

from tests.server.conftest import BASE_MODEL, Platform, jsonl

JOBS = "/reinforcementFineTuningJobs"


@pytest.fixture
def ready(platform: Platform) -> Platform:
    platform.dataset("d")
    platform.evaluator("e")
    return platform


def body(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "dataset": "accounts/local/datasets/d",
        "evaluator": "accounts/local/evaluators/e",
        "evalAutoCarveout": False,
        "wandbConfig": {"enabled": False},
        "trainingConfig": {"baseModel": BASE_MODEL},
    }
    for name, value in changes.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) and name == "trainingConfig" else value
    return base


def _spec(platform: Platform, name: str) -> RftSpec:
    with reading(platform.control.sessions) as session:
        return RftSpec.model_validate(session.get_one(Job, name).spec)


def test_defaults_are_those_of_the_base_model(ready: Platform):
    job = ready.ok("POST", JOBS + "?reinforcementFineTuningJobId=first", json=body())
    spec = _spec(ready, job["name"])
    assert job["name"] == "accounts/local/reinforcementFineTuningJobs/first"
    assert (spec.base_model, spec.learning_rate, spec.lora_rank, spec.n) == (BASE_MODEL, 1e-3, 16, 8)
    assert (spec.epochs, spec.chunk_size, spec.temperature, spec.max_tokens) == (1, None, 1.0, 80)
    assert (spec.loss, spec.kl_beta, spec.stop, spec.seed) == ("DEFAULT", None, [], 0)
    assert (spec.evaluator_version, spec.evaluator_dir, spec.entry_point) == (3, "/built", "evaluation.py::f")
    assert spec.output_model == "accounts/local/models/first"
    assert job["trainingConfig"]["outputModel"] == "accounts/local/models/first"
    assert job["trainingConfig"]["baseModel"] == BASE_MODEL
    assert job["inferenceParameters"]["responseCandidatesCount"] == 8
    assert (job["state"], job["status"]["code"], job["jobProgress"]) == (
        "JOB_STATE_PENDING",
        "OK",
        {"percent": 0, "epoch": 0},
    )
    assert job["wandbConfig"] == {"enabled": False}


def test_every_option_that_takes_effect_does(ready: Platform):
    ready.dataset("held-out")
    given = body(
        displayName="mine",
        evaluationDataset="held-out",
        chunkSize=2,
        maxConcurrentRollouts=4,
        maxStaleness=2,
        groupDeadlineSeconds=30,
        groupQuorum=3,
        lossConfig={"method": "GRPO", "klBeta": 0.01},
        inferenceParameters={
            "maxOutputTokens": 64,
            "temperature": 0.7,
            "topP": 1.0,
            "topK": 0,
            "responseCandidatesCount": 4,
            "extraBody": '{"stop": ["\\n"], "seed": 7}',
        },
        trainingConfig={
            "outputModel": "out",
            "epochs": 2,
            "learningRate": 5e-4,
            "learningRateWarmupSteps": 3,
            "loraRank": 8,
            "maxContextLength": 512,
            "optimizerWeightDecay": 0.1,
            "gradientAccumulationSteps": 1,
            "batchSize": 0,
        },
    )
    job = ready.ok("POST", JOBS, json=given)
    spec = _spec(ready, job["name"])
    assert spec.evaluation_dataset == "accounts/local/datasets/held-out"
    assert (spec.chunk_size, spec.max_concurrent_rollouts, spec.loss, spec.kl_beta) == (2, 4, "GRPO", 0.01)
    assert spec.max_staleness == job["maxStaleness"] == 2
    assert (spec.max_tokens, spec.temperature, spec.n, spec.stop, spec.seed) == (64, 0.7, 4, ["\n"], 7)
    assert (spec.output_model, spec.epochs, spec.learning_rate, spec.warmup_steps) == (
        "accounts/local/models/out",
        2,
        5e-4,
        3,
    )
    assert (spec.lora_rank, spec.max_context_length, spec.weight_decay) == (8, 512, 0.1)
    assert (
        (spec.group_deadline_seconds, spec.group_quorum) == (job["groupDeadlineSeconds"], job["groupQuorum"]) == (30, 3)
    )
    assert job["displayName"] == "mine"
    assert job["lossConfig"] == {"method": "GRPO", "klBeta": 0.01}


@pytest.mark.parametrize("method", [method for method in LossMethod if method is not LossMethod.DEFAULT])
def test_every_named_loss_is_taken_in_any_spelling(ready: Platform, method: LossMethod):
    spelled = method.lower().replace("_", "-")
    job = ready.ok("POST", JOBS, json=body(lossConfig={"method": spelled}))
    assert _spec(ready, job["name"]).loss == method


def test_chunks_follow_the_size_of_the_dataset(ready: Platform):
    ready.dataset("large", jsonl(40))
    for chunk, expected in ((None, 10), (0, 10), (-1, None), (7, 7)):
        job = ready.ok("POST", JOBS, json=body(dataset="large", chunkSize=chunk))
        assert _spec(ready, job["name"]).chunk_size == expected
        assert job.get("chunkSize") == expected


def test_inert_options_are_noted(ready: Platform):
    job = ready.ok("POST", JOBS, json=body(nodeCount=2, reservationTarget="r", maxInferenceReplicaCount=3))
    assert {note["option"] for note in job["notes"]} == {"nodeCount", "reservationTarget", "maxInferenceReplicaCount"}
    assert all(note["reason"] for note in job["notes"])


REFUSED = [
    ({"unknownOption": 1}, "unknownOption"),
    ({"trainingConfig": {"unknown": 1}}, "trainingConfig.unknown"),
    ({"mcpServer": "m"}, "mcpServer"),
    ({"awsS3Config": {"credentialsSecret": "s"}}, "awsS3Config"),
    ({"azureBlobStorageConfig": {"tenantId": "t"}}, "azureBlobStorageConfig"),
    ({"maxConcurrentEvaluations": 4}, "maxConcurrentEvaluations"),
    ({"groupDeadlineSeconds": 30}, "groupDeadlineSeconds has no effect without groupQuorum"),
    ({"groupQuorum": 3}, "groupQuorum has no effect without groupDeadlineSeconds"),
    ({"groupDeadlineSeconds": 0, "groupQuorum": 3}, "groupDeadlineSeconds"),
    ({"groupDeadlineSeconds": 30, "groupQuorum": 8}, "groupQuorum"),
    ({"wandbConfig": {"enabled": True}}, "wandbConfig"),
    ({"wandbConfig": {"enabled": False, "project": "p"}}, "wandbConfig"),
    ({"maxConcurrentRollouts": 0}, "maxConcurrentRollouts"),
    ({"maxStaleness": -1}, "maxStaleness"),
    ({"maxStaleness": 9}, "maxStaleness"),
    ({"chunkSize": -2}, "chunkSize"),
    ({"chunkSize": 10001}, "chunkSize"),
    ({"evalAutoCarveout": True, "evaluationDataset": "d2"}, "evalAutoCarveout"),
    ({"evaluationDataset": "d"}, "evaluationDataset"),
    ({"inferenceParameters": {"topP": 0.9}}, "topP 0.9 is refused"),
    ({"inferenceParameters": {"topK": 40}}, "topK 40 is refused"),
    ({"inferenceParameters": {"responseCandidatesCount": 1}}, "responseCandidatesCount"),
    ({"inferenceParameters": {"temperature": 0}}, "inferenceParameters.temperature"),
    ({"inferenceParameters": {"temperature": 2.5}}, "inferenceParameters.temperature"),
    ({"inferenceParameters": {"maxOutputTokens": 15}}, "inferenceParameters.maxOutputTokens"),
    ({"inferenceParameters": {"maxOutputTokens": 4096}}, "maxOutputTokens"),
    ({"inferenceParameters": {"extraBody": "{"}}, "extraBody"),
    ({"inferenceParameters": {"extraBody": '{"min_p": 1}'}}, "min_p"),
    ({"inferenceParameters": {"extraBody": '{"stop": 3}'}}, "extraBody.stop"),
    ({"inferenceParameters": {"extraBody": '{"seed": -1}'}}, "extraBody.seed"),
    ({"lossConfig": {"method": "DPO"}}, "lossConfig.method"),
    ({"lossConfig": {"dpo": {"beta": 0.1}}}, "lossConfig.dpo"),
    ({"lossConfig": {"klBeta": 0.1}}, "lossConfig.klBeta"),
    ({"lossConfig": {"method": "GRPO", "klBeta": -1}}, "lossConfig.klBeta"),
    ({"lossConfig": {"method": "DAPO", "klBeta": 0.1}}, "loss_config.kl_beta must be 0/unset when method is DAPO"),
    (
        {"lossConfig": {"method": "gspo-token", "klBeta": 1}},
        "loss_config.kl_beta must be 0/unset when method is GSPO_TOKEN",
    ),
    ({"lossConfig": {"method": "cispo", "klBeta": 1}}, "loss_config.kl_beta must be 0/unset when method is CISPO"),
    ({"trainingConfig": {"learningRate": 1e-2}}, "Learning rate 0.01 outside valid range [1e-5, 0.005]"),
    ({"trainingConfig": {"loraRank": 7}}, "trainingConfig.loraRank"),
    ({"trainingConfig": {"epochs": 0}}, "trainingConfig.epochs"),
    ({"trainingConfig": {"epochs": 1.5}}, "trainingConfig.epochs"),
    ({"trainingConfig": {"epochs": 11}}, "trainingConfig.epochs"),
    ({"trainingConfig": {"batchSize": 32000}}, "trainingConfig.batchSize"),
    ({"trainingConfig": {"batchSizeSamples": 4}}, "trainingConfig.batchSizeSamples"),
    ({"trainingConfig": {"gradientAccumulationSteps": 2}}, "gradientAccumulationSteps"),
    ({"trainingConfig": {"samplerCheckpointSaveIntervalSteps": 5}}, "samplerCheckpointSaveIntervalSteps"),
    ({"trainingConfig": {"jinjaTemplate": "x"}}, "jinjaTemplate"),
    ({"trainingConfig": {"maxContextLength": 1_000_000}}, "maxContextLength"),
    ({"trainingConfig": {"maxContextLength": 50}}, "maxOutputTokens 80 leaves no room"),
    ({"trainingConfig": {"learningRateWarmupSteps": -1}}, "learningRateWarmupSteps"),
    ({"trainingConfig": {"optimizerWeightDecay": -1}}, "optimizerWeightDecay"),
    ({"trainingConfig": {"warmStartFrom": "m"}}, "exactly one of"),
    ({"trainingConfig": {"baseModel": ""}}, "baseModel"),
    ({"trainingConfig": {"outputModel": "Bad Name"}}, "outputModel"),
    ({"trainingConfig": {"learningRate": "fast"}}, "trainingConfig.learningRate"),
    ({"preflight": {"rows": 1001}}, "preflight.rows 1001 outside valid range [0, 1000]: 0 is off"),
    ({"preflight": {"rows": 0, "only": True}}, "preflight.only asks for nothing but a preflight"),
    ({"preflight": {"rows": "none"}}, "preflight.rows"),
    *(({"preflight": form}, '{"rows": 0} switches the preflight off') for form in (0, False, "off", [0], {"row": 0})),
]


def test_what_cannot_take_effect_is_refused_by_name(ready: Platform):
    ready.dataset("d2")
    for changes, message in REFUSED:
        assert message in ready.fails(400, "POST", JOBS, json=body(**changes)), changes
    text = json.dumps(body()).replace('"evalAutoCarveout"', '"chunkSize": NaN, "evalAutoCarveout"')
    ready.fails(400, "POST", JOBS, content=text, headers={"Content-Type": "application/json"})
    assert ready.ok("GET", JOBS)[JOBS[1:]] == []


def test_null_is_the_same_as_absent(ready: Platform):
    ready.ok("POST", JOBS, json=body(chunkSize=None, lossConfig={"method": None, "klBeta": None}, preflight=None))


@pytest.mark.parametrize(
    ("given", "rows", "only"), [({"rows": 0}, 0, False), ({}, None, False), ({"only": True}, None, True)]
)
def test_a_preflight_is_of_as_many_rows_as_asked(ready: Platform, given: dict[str, Any], rows: int | None, only: bool):
    made = ready.ok("POST", JOBS, json=body(preflight=given))
    with reading(ready.control.sessions) as session:
        spec = session.get_one(Job, made["name"]).spec
    assert (spec["preflight_rows"], spec["preflight_only"], made["preflightOnly"]) == (rows, only, only)
    assert made.get("preflightRows") == rows, "0 is no absence"


def test_references_must_be_there_and_ready(ready: Platform):
    assert "Evaluator 'nope' not found" in ready.fails(404, "POST", JOBS, json=body(evaluator="nope"))
    assert "datasets/nope" in ready.fails(404, "POST", JOBS, json=body(dataset="nope"))
    ready.ok("POST", "/datasets", json={"dataset": {}, "datasetId": "empty"})
    assert "not READY" in ready.fails(400, "POST", JOBS, json=body(dataset="empty"))
    ready.evaluator("broken", state="BUILD_FAILED")
    message = ready.fails(400, "POST", JOBS, json=body(evaluator="broken"))
    assert "not ACTIVE but BUILD_FAILED: pip failed" in message
    ready.fails(403, "POST", JOBS, json=body(dataset="accounts/other/datasets/d"))
    ready.fails(400, "POST", JOBS, json=body(dataset="accounts/local/evaluators/e"))


def test_a_job_may_name_the_version_of_its_evaluator(ready: Platform):
    full = "accounts/local/evaluators/e"
    assert ready.ok("GET", "/evaluators/e")["version"] == 3
    for name in (full, f"{full}/versions/3", f"{full}/versions/latest", "e", "e/versions/3", "e/versions/latest"):
        for given in (name, name.replace("/", "%2F")):
            ready.ok("POST", JOBS + ":validate", json=body(evaluator=given))
            job = ready.ok("POST", JOBS, json=body(evaluator=given))
            assert (job["evaluator"], job["evaluatorVersion"]) == (full, 3), given
    assert ready.call("POST", JOBS, json=body(evaluator="e/versions/2")).json()["code"] == 9  # FAILED_PRECONDITION
    assert "uploaded anew since (version 3 now" in ready.fails(400, "POST", JOBS, json=body(evaluator="e/versions/2"))
    assert "no version 4 yet" in ready.fails(400, "POST", JOBS, json=body(evaluator=f"{full}/versions/4"))
    assert "names no version" in ready.fails(400, "POST", JOBS, json=body(evaluator="e/versions/newest"))
    ready.fails(403, "POST", JOBS, json=body(evaluator="accounts/b/evaluators/e/versions/3"))
    ready.fails(404, "POST", JOBS, json=body(evaluator="none/versions/3"))


def test_the_id_of_a_job_is_checked_before_anything_is_uploaded(ready: Platform):
    ready.ok("POST", f"{JOBS}?reinforcementFineTuningJobId=mine", json=body())
    check = f"{JOBS}:validate?reinforcementFineTuningJobId="
    assert ready.ok("POST", f"{check}free", json=body()) == {}
    not_yet = body(dataset="yet-to-come", evaluator="e/versions/3")
    made = ready.ok("POST", f"{check}mine", json=not_yet)
    assert made == {"job": "accounts/local/reinforcementFineTuningJobs/mine"}, (
        "as far as it goes, the create that made it"
    )
    assert "with other options" in ready.fails(409, "POST", f"{check}mine", json=body(chunkSize=2))
    assert "reinforcementFineTuningJobId" in ready.fails(400, "POST", f"{check}No%20Id", json=body())
    with ready.control.sessions.begin() as session:
        enqueue(session, "accounts/local/supervisedFineTuningJobs/tuned", "accounts/local", "sft", {})
    assert "is that of" in ready.fails(409, "POST", f"{check}tuned", json=body())
    assert [job["name"].rsplit("/")[-1] for job in ready.ok("GET", JOBS)[JOBS[1:]]] == ["mine"]


def test_a_second_evaluator_that_is_not_there_is_told_before_anything_is_uploaded(ready: Platform):
    ready.ok("POST", JOBS + ":validate", json=body(auditEvaluator="e/versions/3"))
    for path in (JOBS + ":validate", JOBS):
        assert "none" in ready.fails(404, "POST", path, json=body(auditEvaluator="accounts/local/evaluators/none"))


def test_an_unknown_base_model_says_where_it_was_looked_for(ready: Platform, tmp_path: Path):
    for name in ("no-such-model", "org/no-such-model", "accounts/fireworks/models/qwen3-0p6b", str(tmp_path)):
        message = ready.fails(404, "POST", JOBS, json=body(trainingConfig={"baseModel": name}))
        assert "ooked in" in message or str(tmp_path) in message


def test_the_same_create_under_an_id_is_one_job(ready: Platform):
    path = JOBS + "?reinforcementFineTuningJobId=mine"
    first = ready.ok("POST", path, json=body())
    assert ready.ok("POST", path, json=body())["createTime"] == first["createTime"]
    response = ready.call("POST", path, json=body(chunkSize=2))
    assert (response.status_code, response.headers["x-should-retry"]) == (409, "false")
    assert len(ready.ok("GET", JOBS)[JOBS[1:]]) == 1
    for identity in ("Bad", "a.b", "x" * 57, "-a"):
        message = ready.fails(400, "POST", f"{JOBS}?reinforcementFineTuningJobId={identity}", json=body())
        assert "reinforcementFineTuningJobId" in message


def test_the_output_model_must_be_free(ready: Platform):
    ready.ok("POST", JOBS, json=body(trainingConfig={"outputModel": "out"}))
    assert "already" in ready.fails(409, "POST", JOBS, json=body(trainingConfig={"outputModel": "out"}))
    _model(ready, "done", Path("/nowhere"))
    assert "exists already" in ready.fails(409, "POST", JOBS, json=body(trainingConfig={"outputModel": "done"}))


def _model(platform: Platform, identity: str, folder: Path) -> str:
    name = f"accounts/local/models/{identity}"
    with platform.control.sessions.begin() as session:
        session.add(
            Model(name=name, account="accounts/local", base_model=BASE_MODEL, adapter_path=str(folder), sha256="0")
        )
    return name


def test_warm_start_takes_base_and_rank_from_the_adapter(ready: Platform, tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "target_modules": ["q_proj"]}')
    name = _model(ready, "warm", tmp_path)
    given = body()
    given["trainingConfig"] = {"warmStartFrom": "warm"}
    job = ready.ok("POST", JOBS, json=given)
    spec = _spec(ready, job["name"])
    assert (spec.warm_start_from, spec.base_model, spec.lora_rank) == (name, BASE_MODEL, 8)
    assert job["trainingConfig"]["warmStartFrom"] == name
    assert "baseModel" not in job["trainingConfig"]
    given["trainingConfig"] = {"warmStartFrom": "warm", "loraRank": 16}
    assert "whose rank is 8" in ready.fails(400, "POST", JOBS, json=given)
    message = ready.fails(400, "POST", JOBS, json=body(trainingConfig={"baseModel": name}))
    assert "not of kind base_model, but HF_PEFT_ADDON" in message
    base = body()
    base["trainingConfig"] = {"warmStartFrom": BASE_MODEL}
    assert "is a base model" in ready.fails(400, "POST", JOBS, json=base)
    assert "is in use by" in ready.fails(400, "DELETE", "/models/warm")


def test_cancel_delete_and_what_a_job_holds(ready: Platform):
    name = ready.ok("POST", JOBS + "?reinforcementFineTuningJobId=j", json=body())["name"]
    assert name in ready.fails(400, "DELETE", "/datasets/d")
    ready.ok("DELETE", "/evaluators/e")  # pinned by version: the job keeps what was built
    assert ready.ok("POST", f"{JOBS}/j:cancel", json={}) == {}
    assert ready.ok("GET", f"{JOBS}/j")["state"] == "JOB_STATE_CANCELLED"
    assert ready.ok("POST", f"{JOBS}/j:cancel", json={}) == {}
    ready.ok("DELETE", "/datasets/d")
    assert ready.ok("DELETE", f"{JOBS}/j") == {}
    assert ready.ok("GET", JOBS)[JOBS[1:]] == []
    assert "being deleted" in ready.fails(409, "POST", JOBS + "?reinforcementFineTuningJobId=j", json=body())
    ready.fails(404, "POST", f"{JOBS}/none:cancel", json={})
    ready.fails(404, "DELETE", f"{JOBS}/none")
    ready.fails(404, "GET", f"{JOBS}/none")


def test_progress_is_shown_as_the_worker_reports_it(ready: Platform):
    name = ready.ok("POST", JOBS, json=body())["name"]
    run = {"step": 3, "total_steps": 9, "mean_score": 0.5}
    processes = [{"name": "learner", "pid": 7, "peak_rss_mib": 300}]
    with ready.control.sessions.begin() as session:
        assert claim(session, "w", ["rft"], 30)
        set_progress(
            session, name, {"percent": 33, "epoch": 1, "failedRequests": 2, "run": run, "processes": processes}
        )
    job = ready.ok("GET", f"{JOBS}/{name.rsplit('/', 1)[1]}")
    assert (job["state"], job["jobProgress"]) == ("JOB_STATE_RUNNING", {"percent": 33, "epoch": 1, "failedRequests": 2})
    assert job["run"] == run == json.loads(job["outputMetrics"])
    assert job["processes"] == processes
    with ready.control.sessions.begin() as session:
        finish(session, name, "JOB_STATE_FAILED", {"code": "FAILED_PRECONDITION", "message": "more than half invalid"})
    job = ready.ok("GET", JOBS, params={"filter": "state=JOB_STATE_FAILED"})[JOBS[1:]][0]
    assert job["status"] == {"code": "FAILED_PRECONDITION", "message": "more than half invalid"}
    assert job["completedTime"].endswith("Z")


def test_names_of_policy_versions_are_the_jobs_own(ready: Platform):
    """`exp-v2` is both a natural name and what the gateway calls the second version of the job `exp`."""
    create = JOBS + "?reinforcementFineTuningJobId="
    ready.ok("POST", create + "exp", json=body())
    assert "policy version of the job exp" in ready.fails(409, "POST", create + "exp-v2", json=body())
    ready.ok("POST", create + "exp-v2", json=body(trainingConfig={"outputModel": "second"}))
    assert "policy version" in ready.fails(409, "POST", create + "a", json=body(trainingConfig={"outputModel": "a-v0"}))
    ready.ok("POST", create + "b", json=body(trainingConfig={"outputModel": "run-v7"}))
    assert "models/run-v7 is" in ready.fails(409, "POST", create + "run", json=body())
    ready.ok("POST", create + "run-v", json=body())


def test_the_id_of_a_deleted_job_that_ran_is_not_used_again(ready: Platform):
    with ready.control.sessions.begin() as session:
        put_policy(
            session,
            name="accounts/local/models/old-v0",
            account="accounts/local",
            job="old",
            version=0,
            base_model=BASE_MODEL,
            adapter_path="/a",
            sha256="0" * 64,
            seed=0,
            sampling={},
        )
    create = JOBS + "?reinforcementFineTuningJobId="
    assert "was deleted" in ready.fails(409, "POST", create + "old", json=body())
    ready.ok("POST", create + "older", json=body())
