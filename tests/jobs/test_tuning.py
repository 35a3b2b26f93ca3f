"""The handler of SFT and DPO jobs: from rows to a model through a real training process, and what it makes of every end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tunesmith.catalog import resolve
from tunesmith.db import jobs, throughputs
from tunesmith.db.datasets import create_dataset, fill_dataset
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.db.tuning_jobs import resume_tuning_job
from tunesmith.jobs import tuning
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.promotion import keep_model
from tunesmith.jobs.tuning import TuningHandler
from tunesmith.runs.tuning import TuningConfig
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.settings import Settings
from tunesmith.storage.objects import ObjectStore

from tests.jobs.conftest import ACCOUNT, final, until, working

BASE = "accounts/tunesmith/models/tiny-math-v1"
NAME = f"{ACCOUNT}/supervisedFineTuningJobs/tune"
DATASET = f"{ACCOUNT}/datasets/sums"
MODEL = f"{ACCOUNT}/models/sums-1"


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + {n % 7}?"},
                {"role": "assistant", "content": f"The sum is {n + n % 7}."},
            ]
        }
        for n in range(count)
    ]


def upload(settings: Settings, sessions, content: list[dict[str, Any]]) -> None:
    file = settings.path("uploads", "rows.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in content))
    size = ObjectStore.open(settings).put_file("datasets/local/sums/rows.jsonl", file)
    with sessions.begin() as session:
        create_dataset(session, ACCOUNT, DATASET, {})
        fill_dataset(session, DATASET, "datasets/local/sums/rows.jsonl", len(content), size)


def spec(**changes: Any) -> TuningSpec:
    values: dict[str, Any] = {
        "loss": "SFT",
        "base_model": BASE,
        "dataset": DATASET,
        "eval_auto_carveout": True,
        "example_count": 60,
        "output_model": MODEL,
        "epochs": 3.0,
        "batch_size_samples": 8,
        "learning_rate": 2e-3,
        "lora_rank": 8,
        "request": {},
    }
    return TuningSpec.model_validate({**values, **changes})


def enqueue(sessions, **changes: Any) -> None:
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "sft", spec(**changes).model_dump(mode="json"))


def row_of(sessions, entity: Any, name: str) -> Any:
    with reading(sessions) as session:
        return session.get(entity, name)


async def test_a_job_killed_on_its_way_becomes_a_model_all_the_same(settings: Settings, sessions) -> None:
    upload(settings, sessions, rows())
    enqueue(sessions)
    run_dir = settings.path("runs", "tune", "x").parent
    states = []

    def trains(job: Job) -> bool:
        states.append(job.state)
        return job.progress.get("run", {}).get("stage") == "training"

    async with working(settings, sessions, [(TuningHandler("sft"), 1)]):
        job = await until(sessions, NAME, trains, 90)
        os.kill(job.progress["processes"][0]["pid"], signal.SIGKILL)
        job = await final(sessions, NAME, 90)
        assert (job.state, job.progress["percent"]) == (jobs.COMPLETED, 100), job.status
        steps = [line["step"] for line in _lines(run_dir / "metrics.jsonl") if "loss" in line]
        assert steps == list(range(1, job.progress["run"]["total_steps"] + 1))
        result = json.loads((run_dir / "output" / "result.json").read_text())
        model = row_of(sessions, Model, MODEL)
        assert (model.kind, model.base_model, model.job, model.sha256) == (
            "HF_PEFT_ADDON",
            BASE,
            NAME,
            result["sha256"],
        )
        assert model.details["evalLoss"] == result["eval_loss"]
        with safe_open(Path(model.adapter_path, "adapter_model.safetensors"), "numpy") as weights:
            assert weights.keys()
        with reading(sessions) as session:
            seen = throughputs.recent(session, BASE, "sft")
            assert [row.source for row in seen] == [NAME]
            assert seen[0].tokens_per_second > 0
        with sessions.begin() as session:
            jobs.request_delete(session, NAME)
        while row_of(sessions, Job, NAME) is not None:
            await asyncio.sleep(0.05)
    assert not run_dir.exists()
    assert not list(settings.path("logs", "x").parent.glob("tune-*"))
    assert Path(model.adapter_path, "adapter_config.json").is_file()
    assert "JOB_STATE_VALIDATING" in states


async def test_what_the_process_says_ends_the_job_and_a_resumed_one_is_judged_anew(
    settings: Settings, sessions
) -> None:
    broken = rows(6)
    broken[3]["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    upload(settings, sessions, broken)
    enqueue(sessions, epochs=1.0)
    run_dir = settings.path("runs", "tune", "x").parent
    async with working(settings, sessions, [(TuningHandler("sft"), 1)]):
        job = await final(sessions, NAME, 90)
        assert job.state == jobs.FAILED
        assert "line 4" in job.status["message"]
        assert row_of(sessions, Model, MODEL) is None
        (run_dir / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(6)))
        with sessions.begin() as session:
            resume_tuning_job(session, "sft", NAME)
        job = await final(sessions, NAME, 90)
        assert job.state == jobs.COMPLETED, job.status
    assert row_of(sessions, Model, MODEL) is not None


async def test_preferences_become_a_model(settings: Settings, sessions) -> None:
    pairs = [
        {
            "input": {"messages": row["messages"][:1]},
            "preferred_output": row["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
        }
        for row in rows(12)
    ]
    upload(settings, sessions, pairs)
    name = f"{ACCOUNT}/dpoJobs/prefer"
    with sessions.begin() as session:
        values = spec(loss="DPO", epochs=1.0, beta=0.2, batch_size_samples=4, learning_rate=5e-4)
        jobs.enqueue(session, name, ACCOUNT, "dpo", values.model_dump(mode="json"))
    async with working(settings, sessions, [(TuningHandler("dpo"), 1)]):
        job = await final(sessions, name, 90)
    assert job.state == jobs.COMPLETED, job.status
    assert row_of(sessions, Model, MODEL).details["loss"] == "DPO"
    lines = _lines(settings.path("runs", "prefer", "metrics.jsonl"))
    assert all("accuracy" in line for line in lines if "loss" in line)
    with reading(sessions) as session:
        assert [row.source for row in throughputs.recent(session, BASE, "dpo")] == [name]


async def test_a_cancelled_job_keeps_its_checkpoints(settings: Settings, sessions) -> None:
    upload(settings, sessions, rows())
    enqueue(sessions, epochs=1000.0)
    async with working(settings, sessions, [(TuningHandler("sft"), 1)]):
        job = await until(sessions, NAME, lambda job: job.progress.get("run", {}).get("step", 0) >= 2, 90)
        with sessions.begin() as session:
            jobs.request_cancel(session, NAME)
        job = await final(sessions, NAME, 30)
    assert (job.state, job.status["code"]) == (jobs.CANCELLED, "CANCELLED")
    assert list(settings.path("runs", "tune", "checkpoints", "x").parent.glob("step-*"))
    assert row_of(sessions, Model, MODEL) is None


def claim(settings: Settings, sessions, **changes: Any) -> tuning._Claim:
    enqueue(sessions, **changes)
    with sessions.begin() as session:
        claimed = jobs.claim(session, "worker", ["sft"], 30.0)
        assert claimed is not None
        job = ClaimedJob.of(claimed)
    return tuning._Claim(job, JobContext(settings, sessions, job, "worker"))


async def test_the_run_has_every_option_of_the_job(settings: Settings, sessions) -> None:
    upload(settings, sessions, rows(6))
    options = {
        "evaluation_dataset": DATASET,
        "eval_auto_carveout": False,
        "epochs": 2.5,
        "schedule": "cosine",
        "min_lr_ratio": 0.1,
        "decay_ratio": 0.5,
        "warmup_steps": 3,
        "weight_decay": 0.2,
        "lora_alpha": 8,
        "beta": 0.3,
        "orpo_lambda": 0.4,
        "max_context_length": 64,
        "thinking_history": "preserved",
    }
    prepared = claim(settings, sessions, **options)
    await prepared.prepare()
    config = TuningConfig.read(prepared.run_dir)
    assert (config.job, config.account, config.loss, config.base_model.name) == ("tune", "local", "SFT", BASE)
    assert config.dataset.read_text() == "".join(json.dumps(row) + "\n" for row in rows(6))
    assert config.evaluation_dataset is not None
    assert config.evaluation_dataset.read_text() == config.dataset.read_text()
    assert (config.epochs, config.batch_size_samples, config.learning_rate, config.lora_rank) == (2.5, 8, 2e-3, 8)
    assert config.schedule.model_dump() == {
        "kind": "cosine",
        "min_ratio": 0.1,
        "decay_ratio": 0.5,
        "warmup_steps": 3,
    }
    assert (config.weight_decay, config.lora_alpha, config.beta, config.orpo_lambda) == (0.2, 8, 0.3, 0.4)
    assert (config.max_context_length, config.thinking_history, config.threads) == (
        64,
        "preserved",
        settings.torch_threads,
    )


async def test_a_full_model_is_kept_where_it_can_be_trained_on(settings: Settings, sessions) -> None:
    """What the process leaves is written by hand here: a copy of the base."""
    upload(settings, sessions, rows(6))
    first = claim(settings, sessions, lora_rank=0)
    await first.prepare()
    _complete(first.run_dir, settings, BASE)
    outcome = await first.train()
    with sessions.begin() as session:
        TuningHandler("sft").settle(session, first.job, outcome)
    model = row_of(sessions, Model, MODEL)
    assert (model.kind, model.base_model) == ("HF_BASE_MODEL", BASE)
    folder = settings.path("objects", "models", "local", "sums-1")
    assert not (folder / "result.json").exists()
    made = resolve(MODEL, models_dir=settings.path("models"), account_models=settings.path("objects", "models"))
    assert (made.path, made.training.tuning.lora_rank) == (folder, 16)

    # A model trained on that one has the same origin, and outlives the run directory.
    second = f"{ACCOUNT}/models/sums-2"
    with sessions.begin() as session:
        session.delete(session.get_one(Job, NAME))
    again = claim(settings, sessions, base_model=MODEL, lora_rank=0, output_model=second)
    shutil.rmtree(again.run_dir)
    await again.prepare()
    assert TuningConfig.read(again.run_dir).base_model.path == folder
    _complete(again.run_dir, settings, MODEL)
    outcome = await again.train()
    with sessions.begin() as session:
        TuningHandler("sft").settle(session, again.job, outcome)
    assert row_of(sessions, Model, second).base_model == BASE
    shutil.rmtree(again.run_dir)
    kept = settings.path("objects", "models", "local", "sums-2")
    assert json.loads((kept / "tunesmith.json").read_text()) == {"base_model": BASE}
    assert (kept / "model.safetensors").stat().st_size > 0


def test_keeping_a_model_twice_does_no_harm(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "result.json").write_text("{}")
    folders = [keep_model(settings, tmp_path, MODEL, BASE) for _ in range(2)]
    assert {path.name for path in folders[0].iterdir()} == {"config.json", "tunesmith.json"}
    assert folders[0] == folders[1]


@pytest.mark.parametrize("gone", ["dataset", "base"])
async def test_what_is_gone_is_said(settings: Settings, sessions, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if gone == "base":
        upload(settings, sessions, rows(6))
    enqueue(sessions, **({"base_model": "org/none"} if gone == "base" else {}))
    async with working(settings, sessions, [(TuningHandler("sft"), 1)]):
        job = await final(sessions, NAME, 30)
    assert job.state == jobs.FAILED
    assert ("Base model org/none" if gone == "base" else f"{DATASET} has no rows any more") in job.status["message"]


def _complete(run_dir: Path, settings: Settings, base: str) -> None:
    entry = resolve(base, models_dir=settings.path("models"), account_models=settings.path("objects", "models"))
    shutil.copytree(entry.path, run_dir / "output")
    result = {"kind": "model", "step": 3, "eval_loss": None, "sha256": "ab"}
    (run_dir / "output" / "result.json").write_text(json.dumps(result))
    status = {"state": "COMPLETED", "stage": "writing", "step": 3, "total_steps": 3, "percent": 100, "epoch": 1}
    (run_dir / "status.json").write_text(json.dumps(status))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
