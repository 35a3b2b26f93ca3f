"""The published fireworks-ai, unmodified: datasets, SFT and DPO jobs, and the models that they make, through its own methods."""

from __future__ import annotations

import json

import pytest

from tests.clients.servers import PUBLISHED as BIN
from tests.loop import tuning
from tests.loop.platform import REPO

pytestmark = pytest.mark.clients

START = """
import json, time, urllib.request
from fireworks import BadRequestError, Fireworks, NotFoundError

client = Fireworks()
OVER = {"JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}

def parsed(found):
    "The client takes any answer; here it has to be what its types say."
    return type(found).model_validate(json.loads(found.model_dump_json(by_alias=True, exclude_unset=True)))

def upload(dataset_id, rows):
    client.datasets.create(dataset_id=dataset_id, dataset={"display_name": "d"})
    client.datasets.upload(dataset_id, file=("rows.jsonl", "".join(json.dumps(row) + "\\n" for row in rows).encode()))
    return parsed(client.datasets.get(dataset_id))

def mine(listed):
    "Names of what this script made; other tests work on the same platform."
    return [name for name in (parsed(found).name for found in listed) if "/client-" in name]

def until_over(jobs, job_id):
    while (job := parsed(jobs.get(job_id))).state not in OVER:
        time.sleep(0.2)
    return job

def until_gone(jobs, job_id):
    while (message := refused(jobs.get, job_id, error=NotFoundError)) == "it was not refused":
        time.sleep(0.2)
    return message

def refused(method, *arguments, error=BadRequestError, **options):
    try:
        method(*arguments, **options)
    except error as found:
        return found.body["message"]
    return "it was not refused"
"""

SFT = """
jobs = client.supervised_fine_tuning_jobs
dataset = upload("client-chats", ROWS)
options = {"dataset": dataset.name, "base_model": BASE, "epochs": 2, "batch_size_samples": 4, "learning_rate": 0.005, "lora_rank": 8}
made = parsed(jobs.create(supervised_fine_tuning_job_id="client-sft", output_model="client-model", eval_auto_carveout=True, **options))
again = jobs.create(supervised_fine_tuning_job_id="client-sft", output_model="client-model", eval_auto_carveout=True, **options)
job = until_over(jobs, "client-sft")
metrics = [json.loads(line) for line in urllib.request.urlopen(job.metrics_file_signed_url)]
losses = [line["eval_loss"] for line in metrics if "eval_loss" in line]
model = parsed(client.models.get("client-model"))
answer = client.chat.completions.create(
    model=model.name, messages=[{"role": "user", "content": QUESTION}], max_tokens=24, temperature=0
)
files = client.models.get_download_endpoint("client-model").filename_to_signed_urls
told = {
    "dataset": [dataset.state, dataset.example_count],
    "made": [made.name, made.lora_rank, made.epochs],
    "again": again.name == made.name,
    "ended": [job.state, job.output_model, job.status.code, job.job_progress.percent, job.create_time < job.completed_time],
    "learned": losses[-1] < losses[0],
    "answer": answer.choices[0].message.content,
    "files": sorted(files),
    "size": len(urllib.request.urlopen(files["adapter_model.safetensors"]).read()) > 1000,
    "listed": mine(jobs.list(page_size=1)),
    "models": mine(client.models.list()),
    "resume": refused(jobs.resume, "client-sft", body={}),
    "deprecated": refused(jobs.create, batch_size=512, **options),
    "range": refused(jobs.create, **{**options, "learning_rate": 1.0}),
    "unknown": refused(jobs.create, **{**options, "dataset": "accounts/local/datasets/none"}, error=NotFoundError),
}
jobs.cancel("client-sft", body={})
told["cancel"] = jobs.get("client-sft").state
jobs.delete("client-sft")
told["gone"] = until_gone(jobs, "client-sft")
client.models.delete("client-model")
told["left"] = mine(client.models.list())
print(json.dumps(told))
"""

DPO = """
jobs = client.dpo_jobs
dataset = upload("client-pairs", ROWS)
made = parsed(jobs.create(
    dataset=dataset.name, dpo_job_id="client-dpo", loss_config={"method": "ORPO"}, extra_body={"lossConfig": {"method": "ORPO", "orpoLambda": 0.3}},
    training_config={"base_model": BASE, "epochs": 900, "output_model": "client-dpo-model"},
))
while "has no metrics yet" in refused(jobs.get_metrics_file_endpoint, "client-dpo", error=NotFoundError):
    time.sleep(0.2)
metrics = jobs.get_metrics_file_endpoint("client-dpo").signed_url
while not urllib.request.urlopen(metrics).read():
    time.sleep(0.2)
running = parsed(jobs.get("client-dpo"))
jobs.cancel("client-dpo", body={})
ended = until_over(jobs, "client-dpo")
told = {
    "made": [made.name, made.loss_config.method, made.training_config.output_model, made.training_config.epochs],
    "running": running.state,
    "ended": [ended.state, ended.status.code],
    "listed": mine(jobs.list()),
    "resume": refused(jobs.resume, "client-dpo", body={}),
    "chats": refused(jobs.create, dataset=upload("client-no-pairs", [{"messages": [{"role": "user", "content": "a"}]}] * 3).name,
                     training_config={"base_model": BASE}),
}
jobs.delete("client-dpo")
until_gone(jobs, "client-dpo")
print(json.dumps({**told, "left": mine(jobs.list())}))
"""


def told(platform, environment, script: str, rows: list[dict]) -> dict:
    values = {"BASE": tuning.BASE, "QUESTION": tuning.QUESTION, "ROWS": rows}
    defined = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    ended = platform.run(BIN / "python", "-c", START + defined + script, cwd=REPO, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stdout
    return json.loads(ended.stdout.splitlines()[-1])


def test_supervised_fine_tuning(platform, environment):
    seen = told(platform, environment, SFT, tuning.chats(44))
    assert "completed" in seen.pop("resume")
    assert "batchSizeSamples" in seen.pop("deprecated")
    assert "Learning rate 1 outside valid range" in seen.pop("range")
    assert "no dataset accounts/local/datasets/none" in seen.pop("unknown")
    assert "There is no SFT job" in seen.pop("gone")
    assert seen.pop("answer")
    name = "accounts/local/supervisedFineTuningJobs/client-sft"
    assert seen == {
        "dataset": ["READY", "44"],
        "made": [name, 8, 2],
        "again": True,
        "ended": ["JOB_STATE_COMPLETED", "accounts/local/models/client-model", "OK", 100, True],
        "learned": True,
        "files": ["adapter_config.json", "adapter_model.safetensors"],
        "size": True,
        "listed": [name],
        "models": ["accounts/local/models/client-model"],
        "cancel": "JOB_STATE_COMPLETED",
        "left": [],
    }


def test_preference_tuning(platform, environment):
    seen = told(platform, environment, DPO, tuning.pairs(12))
    assert "was cancelled, which is final" in seen.pop("resume")
    assert "are conversations" in seen.pop("chats")
    assert seen.pop("running") in ("JOB_STATE_VALIDATING", "JOB_STATE_RUNNING")
    name = "accounts/local/dpoJobs/client-dpo"
    assert seen == {
        "made": [name, "ORPO", "accounts/local/models/client-dpo-model", 900],
        "ended": ["JOB_STATE_CANCELLED", "CANCELLED"],
        "listed": [name],
        "left": [],
    }
