"""SFT and DPO jobs: every option is honoured, refused by name, or noted; defaults are filled in; a create is idempotent by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tunesmith.db.jobs import FAILED, claim, finish, request_cancel, set_progress
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.schemas.tuning_spec import TuningSpec

from tests.server.conftest import BASE_MODEL, Platform, jsonl

SFT = "/supervisedFineTuningJobs"
DPO = "/dpoJobs"
CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
PAIR = {
    "input": {"messages": [{"role": "user", "content": "2+2?"}]},
    "preferred_output": [{"role": "assistant", "content": "4"}],
    "non_preferred_output": [{"role": "assistant", "content": "5"}],
}


def rows(row: dict[str, Any], count: int = 3) -> bytes:
    return b"".join(json.dumps({**row, "n": index}).encode() + b"\n" for index in range(count))


@pytest.fixture
def ready(platform: Platform) -> Platform:
    platform.dataset("d", rows(CHAT))
    platform.dataset("pairs", rows(PAIR))
    return platform


def sft(**changes: Any) -> dict[str, Any]:
    return {"dataset": "accounts/local/datasets/d", "baseModel": BASE_MODEL, **changes}


def dpo(loss: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    config = {"baseModel": BASE_MODEL, **training}
    return {"dataset": "pairs", "trainingConfig": config, **({"lossConfig": loss} if loss else {})}


def spec(platform: Platform, job: dict[str, Any]) -> TuningSpec:
    with reading(platform.control.sessions) as session:
        return TuningSpec.model_validate(session.get_one(Job, job["name"]).spec)


def test_defaults_are_those_of_the_base_model(ready: Platform):
    job = ready.ok("POST", SFT + "?supervisedFineTuningJobId=first", json=sft())
    assert job["name"] == "accounts/local/supervisedFineTuningJobs/first"
    assert (job["state"], job["status"]["code"], job["jobProgress"]["percent"]) == ("JOB_STATE_PENDING", "OK", 0)
    assert (job["baseModel"], job["outputModel"]) == (BASE_MODEL, "accounts/local/models/first")
    assert (job["epochs"], job["learningRate"], job["loraRank"], job["batchSizeSamples"]) == (1, 2e-3, 16, 16)
    assert (job["optimizerWeightDecay"], job["lrScheduler"]) == (0.01, {"constant": {}})
    assert job["thinkingTraceHistoryMode"] == "THINKING_TRACE_HISTORY_MODE_UNSPECIFIED"
    assert (spec(ready, job).loss, spec(ready, job).lora_alpha) == ("SFT", 32)
    assert "metricsFileSignedUrl" not in job
    waiting = ready.ok("GET", SFT + "/first")
    assert waiting == {**job, "queue": waiting["queue"]}
    assert ready.ok("GET", SFT)["supervisedFineTuningJobs"] == [waiting]


def test_full_parameters_start_at_a_tenth_of_the_rate(ready: Platform):
    job = ready.ok("POST", SFT, json=sft(loraRank=0))
    assert (job["loraRank"], job["learningRate"]) == (0, pytest.approx(2e-4))


def test_every_option_that_takes_effect_does(ready: Platform):
    ready.dataset("held-out", rows(CHAT, 1))
    given = sft(
        displayName="mine",
        evaluationDataset="held-out",
        outputModel="accounts/local/models/out",
        epochs=2.5,
        learningRate=5e-4,
        learningRateWarmupSteps=3,
        lrScheduler={"cosine": {"minLrRatio": 0.1, "decayRatio": 0.5}},
        loraRank=8,
        maxContextLength=128,
        optimizerWeightDecay=0.1,
        batchSizeSamples=2,
        batchSize=0,
        thinkingTraceHistoryMode="THINKING_TRACE_HISTORY_MODE_PRESERVED",
        wandbConfig={"enabled": False},
    )
    job = ready.ok("POST", SFT, json=given)
    values = spec(ready, job)
    assert values.evaluation_dataset == "accounts/local/datasets/held-out"
    assert (values.output_model, values.epochs, values.learning_rate) == ("accounts/local/models/out", 2.5, 5e-4)
    assert (values.warmup_steps, values.schedule, values.min_lr_ratio, values.decay_ratio) == (3, "cosine", 0.1, 0.5)
    assert (values.lora_rank, values.max_context_length, values.weight_decay) == (8, 128, 0.1)
    assert (values.batch_size_samples, values.thinking_history) == (2, "preserved")
    assert job["displayName"] == "mine"
    assert job["lrScheduler"] == {"cosine": {"minLrRatio": 0.1, "decayRatio": 0.5}}


def test_a_wrapped_body_is_the_same_job(ready: Platform):
    flat = ready.ok("POST", SFT + "?supervisedFineTuningJobId=w", json=sft(epochs=2))
    wrapped = {"supervisedFineTuningJob": sft(epochs=2), "supervisedFineTuningJobId": "w"}
    assert ready.ok("POST", SFT, json=wrapped) == flat
    both = ready.fails(400, "POST", SFT + "?supervisedFineTuningJobId=other", json=wrapped)
    assert "supervisedFineTuningJobId" in both
    assert ready.ok("POST", DPO, json={"dpoJob": dpo(), "dpoJobId": "p"})["name"].endswith("dpoJobs/p")


REFUSED = [
    ({"unknownOption": 1}, "unknownOption"),
    ({"batchSize": 32768}, "batchSize cannot take effect here: set batchSizeSamples"),
    ({"gradientAccumulationSteps": 4}, "gradientAccumulationSteps cannot take effect here: set batchSizeSamples"),
    ({"jinjaTemplate": "{{ x }}"}, "jinjaTemplate"),
    ({"earlyStop": True}, "earlyStop cannot take effect here: set evaluationDataset or evalAutoCarveout"),
    ({"mtpEnabled": True}, "mtpEnabled"),
    ({"mtpNumDraftTokens": 2}, "mtpNumDraftTokens"),
    ({"mtpFreezeBaseModel": True}, "mtpFreezeBaseModel"),
    ({"extraValues": {"a": "b"}}, "extraValues"),
    ({"samplerCheckpointSaveIntervalSteps": 5}, "samplerCheckpointSaveIntervalSteps"),
    ({"rendererHuggingFaceRepoId": "x/y"}, "rendererHuggingFaceRepoId"),
    ({"wandbConfig": {"enabled": True}}, "wandbConfig"),
    ({"awsS3Config": {"credentialsSecret": "s"}}, "awsS3Config"),
    ({"azureBlobStorageConfig": {"tenantId": "t"}}, "azureBlobStorageConfig"),
    ({"learningRate": 1}, "Learning rate 1 outside valid range [0, 0.01]"),
    ({"learningRate": -1e-4}, "Learning rate -0.0001 outside valid range"),
    ({"loraRank": 7}, "LoRA rank 7 outside valid range {0, 1, 2, 4, 8, 16, 32}"),
    ({"loraRank": 64}, "LoRA rank 64 outside valid range"),
    ({"epochs": 0}, "Epochs 0 outside valid range"),
    ({"epochs": 1e6}, "Epochs 1e+06 outside valid range"),
    ({"batchSizeSamples": 0}, "Batch size 0 outside valid range"),
    ({"maxContextLength": 1_000_000}, "maxContextLength 1000000 outside valid range"),
    ({"optimizerWeightDecay": -1}, "optimizerWeightDecay"),
    ({"learningRateWarmupSteps": -1}, "learningRateWarmupSteps"),
    ({"lrScheduler": {}}, "lrScheduler must have exactly one"),
    ({"lrScheduler": {"constant": {}, "linear": {}}}, "lrScheduler must have exactly one"),
    ({"lrScheduler": {"linear": {"minLrRatio": 2}}}, "lrScheduler.linear.minLrRatio"),
    ({"lrScheduler": {"step": {}}}, "lrScheduler.step"),
    ({"thinkingTraceHistoryMode": "SOMETIMES"}, "thinkingTraceHistoryMode"),
    ({"evaluationDataset": "d"}, "evaluationDataset is the training dataset"),
    ({"evaluationDataset": "d2", "evalAutoCarveout": True}, "evalAutoCarveout has no effect"),
    ({"baseModel": None}, "Give one of baseModel"),
    ({"warmStartFrom": "m"}, "exactly one of baseModel and warmStartFrom"),
    ({"dataset": "pairs"}, "are preferences"),
    ({"dataset": "prompts"}, "row 1 of accounts/local/datasets/prompts has no message of the assistant"),
    ({"dataset": "two"}, "has 2 rows; a job needs 3 to 3,000,000"),
    ({"outputModel": "No Good"}, "outputModel"),
]


def test_what_cannot_take_effect_is_refused_by_its_name(ready: Platform):
    ready.dataset("prompts", jsonl())
    ready.dataset("two", rows(CHAT, 2))
    for changes, message in REFUSED:
        assert message in ready.fails(400, "POST", SFT, json=sft(**changes)), changes
    assert ready.ok("GET", SFT)["supervisedFineTuningJobs"] == []


def test_missing_things_are_404(ready: Platform):
    assert "no dataset accounts/local/datasets/none" in ready.fails(404, "POST", SFT, json=sft(dataset="none"))
    assert "no-model" in ready.fails(404, "POST", SFT, json=sft(baseModel="no-model"))
    assert "models/none" in ready.fails(404, "POST", SFT, json=sft(baseModel=None, warmStartFrom="none"))
    ready.ok("POST", "/datasets", json={"dataset": {}, "datasetId": "empty"})
    assert "not READY but UPLOADING" in ready.fails(400, "POST", SFT, json=sft(dataset="empty"))
    for noun in (SFT, DPO):
        ready.fails(404, "GET", noun + "/none")
        ready.fails(404, "POST", noun + "/none:cancel", json={})
        ready.fails(404, "POST", noun + "/none:resume", json={})
        ready.fails(404, "DELETE", noun + "/none")


def test_inert_options_are_noted(ready: Platform):
    flags = {"nodes": 2, "useReservation": True, "reservationTarget": "r", "usePurpose": "pilot", "isTurbo": True}
    job = ready.ok("POST", SFT, json=sft(**flags, region="US_OHIO_1", purpose="PURPOSE_PILOT"))
    assert {note["option"] for note in job["notes"]} == {*flags, "region", "purpose"}
    assert all(note["reason"] for note in job["notes"])
    assert ready.ok("POST", SFT, json=sft(useReservation=False, region="REGION_UNSPECIFIED"))["notes"] == []


def test_the_options_alone_can_be_checked(platform: Platform):
    assert platform.ok("POST", SFT + ":validate", json=sft()) == {}
    assert "Learning rate 1" in platform.fails(400, "POST", SFT + ":validate", json=sft(learningRate=1))
    assert platform.ok("POST", DPO + ":validate", json=dpo()) == {}
    assert "beta 0.6" in platform.fails(400, "POST", DPO + ":validate", json=dpo({"dpo": {"beta": 0.6}}))
    assert platform.ok("GET", SFT)["supervisedFineTuningJobs"] == []


def test_the_same_create_again_is_the_same_job(ready: Platform):
    first = ready.ok("POST", SFT + "?supervisedFineTuningJobId=x", json=sft(epochs=2))
    assert ready.ok("POST", SFT + "?supervisedFineTuningJobId=x", json=sft(epochs=2)) == first
    assert "with other options" in ready.fails(409, "POST", SFT + "?supervisedFineTuningJobId=x", json=sft(epochs=3))
    taken = ready.fails(409, "POST", DPO + "?dpoJobId=x", json=dpo(outputModel="y"))
    assert "is that of accounts/local/supervisedFineTuningJobs/x" in taken
    model = ready.fails(409, "POST", SFT, json=sft(outputModel="x"))
    assert "is making a model of the name accounts/local/models/x already" in model
    assert "not a valid job id" in ready.fails(400, "POST", SFT + "?supervisedFineTuningJobId=A_b", json=sft())


def _adapter(platform: Platform, folder: Path, kind: str = "HF_PEFT_ADDON") -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}))
    with platform.control.sessions.begin() as session:
        session.add(
            Model(
                name="accounts/local/models/warm",
                account="accounts/local",
                kind=kind,
                base_model=BASE_MODEL,
                adapter_path=str(folder),
                sha256="ab",
            )
        )


def test_a_warm_start_keeps_the_adapters_rank(ready: Platform, tmp_path: Path):
    _adapter(ready, tmp_path)
    job = ready.ok("POST", SFT, json=sft(baseModel=None, warmStartFrom="warm"))
    values = spec(ready, job)
    assert (values.base_model, values.warm_start_from) == (BASE_MODEL, "accounts/local/models/warm")
    assert (values.lora_rank, values.lora_alpha) == (4, 8)
    assert job["warmStartFrom"] == "accounts/local/models/warm"
    assert "baseModel" not in job
    wrong = ready.fails(400, "POST", SFT, json=sft(baseModel=None, warmStartFrom="warm", loraRank=8))
    assert "loraRank 8 does not fit warm, whose rank is 4" in wrong
    confused = ready.fails(400, "POST", SFT, json=sft(baseModel="accounts/local/models/warm"))
    assert "not of kind base_model, but HF_PEFT_ADDON" in confused
    assert "is a base model" in ready.fails(400, "POST", SFT, json=sft(baseModel=None, warmStartFrom=BASE_MODEL))
    assert "in use by" in ready.fails(400, "DELETE", "/models/warm")


def test_a_full_model_is_no_adapter(ready: Platform, tmp_path: Path):
    _adapter(ready, tmp_path, "HF_BASE_MODEL")
    refused = ready.fails(400, "POST", SFT, json=sft(baseModel=None, warmStartFrom="warm"))
    assert "is a full model, not an adapter. Give it as baseModel" in refused


def test_preference_jobs(ready: Platform):
    job = ready.ok("POST", DPO + "?dpoJobId=p", json=dpo())
    assert (job["lossConfig"], job["trainingConfig"]["batchSizeSamples"]) == (
        {"method": "DPO", "dpo": {"beta": 0.1}},
        4,
    )
    assert (job["trainingConfig"]["learningRate"], job["trainingConfig"]["outputModel"]) == (
        5e-4,
        "accounts/local/models/p",
    )
    orpo = ready.ok("POST", DPO, json=dpo({"method": "ORPO", "orpoLambda": 0.3}, epochs=2, loraRank=4))
    assert orpo["lossConfig"] == {"method": "ORPO", "orpoLambda": 0.3}
    assert (spec(ready, orpo).loss, spec(ready, orpo).orpo_lambda) == ("ORPO", 0.3)
    noted = ready.ok("POST", DPO, json=dpo({"method": "DPO", "dpo": {"beta": 0.3, "refCacheConcurrency": 4}}))
    assert [note["option"] for note in noted["notes"]] == ["lossConfig.dpo.refCacheConcurrency"]
    assert {row["name"] for row in ready.ok("GET", DPO)["dpoJobs"]} == {job["name"], orpo["name"], noted["name"]}


REFUSED_PREFERENCES = [
    ({"method": "GRPO"}, {}, "lossConfig.method GRPO is not a loss of DPO jobs"),
    ({"klBeta": 0.1}, {}, "lossConfig.klBeta"),
    ({"dpo": {"beta": 0.5}}, {}, "DPO beta 0.5 outside valid range (0, 0.5)"),
    ({"dpo": {"beta": 0}}, {}, "DPO beta 0 outside valid range (0, 0.5)"),
    ({"method": "ORPO", "orpoLambda": 1.5}, {}, "ORPO lambda 1.5 outside valid range (0, 1]"),
    ({"method": "ORPO", "orpoLambda": 0}, {}, "ORPO lambda 0 outside valid range (0, 1]"),
    ({"method": "ORPO", "dpo": {"beta": 0.1}}, {}, "has no effect with method ORPO"),
    ({"orpoLambda": 0.1}, {}, "has no effect with method DPO"),
    (None, {"batchSize": 100}, "trainingConfig.batchSize"),
    (None, {"learningRate": 1}, "(trainingConfig.learningRate)"),
    (None, {"earlyStop": True}, "trainingConfig.earlyStop"),
]


def test_preference_options_are_refused_by_name(ready: Platform):
    for loss, training, message in REFUSED_PREFERENCES:
        assert message in ready.fails(400, "POST", DPO, json=dpo(loss, **training)), (loss, training)


def test_conversations_are_no_preferences(ready: Platform):
    assert "are conversations" in ready.fails(400, "POST", DPO, json={**dpo(), "dataset": "d"})


def test_only_a_failed_job_is_resumed(ready: Platform):
    name = ready.ok("POST", SFT + "?supervisedFineTuningJobId=r", json=sft())["name"]
    assert ready.ok("POST", SFT + "/r:resume", json={})["state"] == "JOB_STATE_PENDING"
    with ready.control.sessions.begin() as session:
        assert claim(session, "w", ["sft"], 30)
        set_progress(session, name, {"percent": 40, "epoch": 0})
        finish(session, name, FAILED, {"code": "INTERNAL", "message": "out of memory"}, owner="w")
    resumed = ready.ok("POST", SFT + "/r:resume", json={})
    assert (resumed["state"], resumed["jobProgress"]["percent"]) == ("JOB_STATE_PENDING", 40)
    assert "completedTime" not in resumed
    with ready.control.sessions.begin() as session:
        job = claim(session, "w", ["sft"], 30)
        assert job is not None
        assert job.attempts == 1
        request_cancel(session, name)
        finish(session, name, "JOB_STATE_CANCELLED", {"code": "CANCELLED", "message": ""}, owner="w")
    assert "was cancelled, which is final" in ready.fails(400, "POST", SFT + "/r:resume", json={})
    ready.ok("DELETE", SFT + "/r")
    assert "is being deleted" in ready.fails(400, "POST", SFT + "/r:resume", json={})
    assert ready.ok("GET", SFT)["supervisedFineTuningJobs"] == []


def test_a_job_is_not_resumed_while_another_one_makes_its_model(ready: Platform):
    failed = ready.ok("POST", SFT + "?supervisedFineTuningJobId=r", json=sft(outputModel="m"))["name"]
    with ready.control.sessions.begin() as session:
        assert claim(session, "w", ["sft"], 30)
        finish(session, failed, FAILED, {"code": "INTERNAL", "message": "out of memory"}, owner="w")
    other = ready.ok("POST", SFT + "?supervisedFineTuningJobId=s", json=sft(outputModel="m"))["name"]
    assert f"{other} is making the model" in ready.fails(400, "POST", SFT + "/r:resume", json={})
    with ready.control.sessions.begin() as session:
        request_cancel(session, other)
        finish(session, other, "JOB_STATE_CANCELLED", {"code": "CANCELLED", "message": ""})
    assert ready.ok("POST", SFT + "/r:resume", json={})["state"] == "JOB_STATE_PENDING"


def test_the_files_of_a_run_are_read_by_signed_url(ready: Platform):
    ready.ok("POST", SFT + "?supervisedFineTuningJobId=f", json=sft())
    assert "no metrics yet" in ready.fails(404, "GET", SFT + "/f:getMetricsFileEndpoint")
    settings = ready.control.settings
    run_dir = settings.path("runs", "f", "evaluation", "x").parent.parent
    (run_dir / "evaluation").mkdir(exist_ok=True)
    (run_dir / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    (run_dir / "render_samples.jsonl").write_text("{}\n")
    (run_dir / "run.json").write_text("{}")
    for step in (0, 12):
        (run_dir / "evaluation" / f"step-{step:06d}.json").write_text(json.dumps({"step": step, "rows": []}))
    settings.path("logs", "f-trainer.log").write_text("hello\n")
    job = ready.ok("GET", SFT + "/f")
    assert httpx2.get(job["metricsFileSignedUrl"]).text == '{"step": 1}\n{"step": 2}\n'
    assert httpx2.get(job["renderSamplesSignedUrl"]).text == "{}\n"
    assert httpx2.get(job["trainerLogsSignedUrl"]).text == "hello\n"
    assert {step: httpx2.get(url).json()["step"] for step, url in job["evaluationRowsSignedUrls"].items()} == {
        "0": 0,
        "12": 12,
    }
    endpoint = ready.ok("GET", SFT + "/f:getMetricsFileEndpoint")["signedUrl"]
    assert httpx2.get(endpoint).text.count("\n") == 2
    assert httpx2.get(endpoint.replace("metrics.jsonl", "run.json")).status_code == 403
    forged = ready.control.signer.url(ready.url, "GET", "/v1/accounts/local/supervisedFineTuningJobs/f/files/run.json")
    assert httpx2.get(forged).status_code == 404  # signed, and still not on the list
    assert httpx2.get(endpoint.split("?")[0]).status_code == 403


def test_a_price_that_is_set_is_reckoned_from_the_steps_taken(ready: Platform):
    name = ready.ok("POST", SFT + "?supervisedFineTuningJobId=c", json=sft())["name"]
    with ready.control.sessions.begin() as session:
        assert claim(session, "w", ["sft"], 30)
        run = {"step": 5, "total_steps": 20, "trained_tokens": 250_000}
        set_progress(session, name, {"percent": 25, "epoch": 0, "run": run})
    assert "estimatedCost" not in ready.ok("GET", SFT + "/c")
    prices = ready.control.settings.path("prices.json")
    prices.write_text(json.dumps({"currency": "USD", "models": {BASE_MODEL: {"training_per_million": 1.5}}}))
    assert ready.ok("GET", SFT + "/c")["estimatedCost"] == {
        "currencyCode": "USD",
        "units": "1",
        "nanos": 500_000_000,
    }
    with ready.control.sessions.begin() as session:
        set_progress(session, name, {"percent": 25, "epoch": 0, "run": {**run, "seconds": 1800.0}})
        session.get_one(Job, name).started = 1.0  # before the machine's clock was set
    prices.write_text(json.dumps({"currency": "USD", "machine_hour": 0.5}))
    assert ready.ok("GET", SFT + "/c")["estimatedCost"] == {"currencyCode": "USD", "units": "1", "nanos": 0}
    prices.write_text("{")
    assert "estimatedCost" not in ready.ok("GET", SFT + "/c")
