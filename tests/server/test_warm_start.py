"""Warm starts: every kind of job goes on from an adapter of every kind, and what is no adapter of its own is refused before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.catalog import resolve
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Model
from tunesmith.jobs.rft_inputs import write_run
from tunesmith.schemas.rft_spec import RftSpec

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_tuning_jobs import CHAT, PAIR, rows

RFT, SFT, DPO = "reinforcementFineTuningJobs", "supervisedFineTuningJobs", "dpoJobs"
CONFIGS = {
    RFT: {"r": 16, "lora_alpha": 32},
    SFT: {"r": 2, "lora_alpha": 64},  # a rank that no RFT job may ask for, and a scale that none would choose
    DPO: {"r": 1, "lora_alpha": 8},
}


@pytest.fixture
def ready(platform: Platform, tmp_path: Path) -> Platform:
    """One adapter of each kind of job, named `from-KIND`, a full model, and data for every kind."""
    platform.dataset("chats", rows(CHAT))
    platform.dataset("pairs", rows(PAIR))
    platform.evaluator("e")
    platform.make_key("accounts/other")
    with platform.control.sessions.begin() as session:
        for kind, config in CONFIGS.items():
            folder = tmp_path / kind
            folder.mkdir()
            (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
            session.add(model(f"from-{kind.lower()}", folder))
        session.add(model("full", tmp_path, kind="HF_BASE_MODEL"))
        session.add(model("theirs", tmp_path / RFT, account="accounts/other"))
    return platform


def model(identity: str, folder: Path, *, kind: str = "HF_PEFT_ADDON", account: str = "accounts/local") -> Model:
    name = f"{account}/models/{identity}"
    return Model(name=name, account=account, kind=kind, base_model=BASE_MODEL, adapter_path=str(folder), sha256="0")


def request(kind: str, **training: Any) -> dict[str, Any]:
    """A whole create request of a kind of job."""
    if kind == SFT:
        return {"dataset": "chats", **training}
    if kind == DPO:
        return {"dataset": "pairs", "trainingConfig": training}
    return {"dataset": "chats", "evaluator": "e", "evalAutoCarveout": False, "trainingConfig": training}


def planned(platform: Platform, job: dict[str, Any]) -> dict[str, Any]:
    with reading(platform.control.sessions) as session:
        return session.get_one(Job, job["name"]).spec


@pytest.mark.parametrize("kind", CONFIGS)
def test_any_kind_of_job_continues_the_adapter_of_any_kind(ready: Platform, tmp_path: Path, kind: str):
    for source in CONFIGS:
        continues(ready, tmp_path, kind, source)


def continues(ready: Platform, tmp_path: Path, kind: str, source: str) -> None:
    """A job of this kind goes on from what a job of that kind made, with that adapter's base, rank and scale."""
    name = f"accounts/local/models/from-{source.lower()}"
    job = ready.ok("POST", f"/{kind}", json=request(kind, warmStartFrom=name))
    spec, config = planned(ready, job), CONFIGS[source]
    assert (spec["warm_start_from"], spec["base_model"], spec["lora_rank"]) == (name, BASE_MODEL, config["r"])
    shown = job if kind == SFT else job["trainingConfig"]
    assert (shown["warmStartFrom"], shown["loraRank"]) == (name, config["r"])
    assert "baseModel" not in shown
    assert trained_scale(spec, tmp_path, tmp_path / source) == config["lora_alpha"]
    given = ready.ok("POST", f"/{kind}", json=request(kind, warmStartFrom=name, loraRank=config["r"]))
    assert planned(ready, given)["lora_rank"] == config["r"], "saying the adapter's own rank is no contradiction"
    refused = ready.fails(400, "POST", f"/{kind}", json=request(kind, warmStartFrom=name, loraRank=8))
    assert f"loraRank 8 does not fit {name}, whose rank is {config['r']}. Leave it out." in refused


def trained_scale(spec: dict[str, Any], tmp_path: Path, adapter: Path) -> int:
    """The LoRA alpha that the learner is told: in the spec of SFT and DPO, in run.json of RFT."""
    if "lora_alpha" in spec:
        return spec["lora_alpha"]
    train = tmp_path / "rows.jsonl"
    train.write_text(json.dumps(CHAT) + "\n")
    config = write_run(
        tmp_path / "run",
        RftSpec.model_validate(spec),
        job="j",
        account="local",
        base=resolve(BASE_MODEL, models_dir=tmp_path),
        warm_start=adapter,
        train=train,
        rows=1,
        held_out=None,
        gateway_url="http://127.0.0.1:1",
        host_socket=tmp_path / "host.sock",
        threads=1,
    )
    return config.learner.lora_alpha


def test_what_cannot_be_continued_is_refused_before_anything_runs(ready: Platform):
    for kind in CONFIGS:
        refuses(ready, kind)
    for kind in (SFT, DPO):
        full = ready.fails(400, "POST", f"/{kind}", json=request(kind, warmStartFrom="from-dpojobs", loraRank=0))
        assert "loraRank 0 does not fit from-dpojobs, whose rank is 1" in full, "all parameters continue no adapter"
    assert [ready.ok("GET", f"/{kind}")[kind] for kind in CONFIGS] == [[], [], []]


def refuses(ready: Platform, kind: str) -> None:
    def said(status: int, **training: Any) -> str:
        return ready.fails(status, "POST", f"/{kind}", json=request(kind, **training))

    prefix = "" if kind == SFT else "trainingConfig."
    both = said(400, baseModel=BASE_MODEL, warmStartFrom="from-dpojobs")
    assert f"Give exactly one of {prefix}baseModel and {prefix}warmStartFrom, not both." in both
    assert f"Give one of {prefix}baseModel (--base-model) and {prefix}warmStartFrom (--warm-start-from)." in said(400)
    adapter = said(400, baseModel="accounts/local/models/from-dpojobs")
    assert "is not of kind base_model, but HF_PEFT_ADDON. To continue from it, give it as warmStartFrom." in adapter
    full = said(400, warmStartFrom="full")
    assert "accounts/local/models/full is a full model, not an adapter. Give it as baseModel." in full
    assert f"{BASE_MODEL} is a base model, not an adapter." in said(400, warmStartFrom=BASE_MODEL)
    assert "accounts/local/models/none" in said(404, warmStartFrom="none")
    assert "belongs to another account" in said(403, warmStartFrom="accounts/other/models/theirs")
