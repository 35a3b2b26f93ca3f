"""`:exportStep` and `tunesmith job export`: a whole folder or a clear reason, and not for those who may only look."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tunesmith.cli import job
from tunesmith.cli.retention import command as gc
from tunesmith.db.tables import Job
from tunesmith.db.users import Rights
from tunesmith.errors import PermissionDenied
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.files import adapter_path, batch_path, checkpoint_path
from tunesmith.schemas.users import Role
from tunesmith.server.permissions import check

from tests.server.conftest import Platform
from tests.server.test_rft_jobs import body

JOBS = "/reinforcementFineTuningJobs"
STATE = b"moments" * 1000


@pytest.fixture
def trained(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A job that took three steps, of which checkpoint 2 is left, as orchestrator and learner leave its run directory."""
    platform.dataset("d")
    platform.evaluator("e")
    platform.ok("POST", f"{JOBS}?reinforcementFineTuningJobId=first", json=body())
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"weights")
    run_dir = platform.control.settings.path("runs", "first", "run.json").parent
    config: dict[str, Any] = {
        "job": "first",
        "base_model": {"name": "accounts/local/models/base", "path": str(base)},
        "dataset": "d.jsonl",
        "gateway_url": "http://127.0.0.1:1",
        "host_socket": "s",
        "learner": {"loss": "CISPO", "warmup_steps": 5},
    }
    (run_dir / "run.json").write_text(json.dumps(config))
    for version in range(4):
        adapter_path(run_dir, version).mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json", "canary.json"):
            (adapter_path(run_dir, version) / name).write_text(f"{name} {version}")
    for step in range(3):
        rollout = BatchRollout(rollout_id="r", row_index=0, group=0, score=1.0, version=step)
        header = BatchHeader(
            step=step, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator_version="1", rollouts=[rollout]
        )
        Batch(header, [Sample([5, 6], [0, 1], [0.0, -1.0], 0)]).write(batch_path(run_dir, step))
    checkpoint_path(run_dir, 2).mkdir(parents=True)
    (checkpoint_path(run_dir, 2) / "state.safetensors").write_bytes(STATE)
    told = {"state_sha256": hashlib.sha256(STATE).hexdigest()}
    (checkpoint_path(run_dir, 2) / "checkpoint.json").write_text(json.dumps(told))
    (run_dir / "metrics.jsonl").write_text("".join(f'{{"step":{step},"loss":0.5}}\n' for step in range(3)))

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": platform.url, "api_key": platform.key, "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
    return platform


def said(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(job.command, ["export", *map(str, arguments)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def test_a_step_becomes_a_folder(trained: Platform, tmp_path: Path):
    folder = tmp_path / "deep" / "step"
    assert f"Saved step 2 of first in {folder}: " in said("first", "--step", 2, "-o", folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        ".tunesmith-export",
        "README.md",
        *(
            f"adapters/v{k:06d}/{name}"
            for k in (2, 3)
            for name in ("adapter_config.json", "adapter_model.safetensors", "canary.json")
        ),
        "batches/step-000002.json",
        "batches/step-000002.safetensors",
        "metrics.jsonl",
        "optimizer/state.safetensors",
        "step.json",
    ]
    assert (folder / "optimizer/state.safetensors").read_bytes() == STATE
    told = json.loads((folder / "step.json").read_text())
    assert told["base_model"]["sha256"]["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    assert told["loss"] == {"method": "CISPO", "log_ratio_limit": 10.0, "most": 5.0}
    readme = (folder / "README.md").read_text()
    assert "-w A log pi with w = min(r, 5.0) as a constant" in readme
    assert "times min(1, (step + 1) / 5)" in readme
    assert list(folder.parent.iterdir()) == [folder]  # nothing temporary is left


def test_a_dropped_checkpoint_is_made_up_for_and_told(trained: Platform, tmp_path: Path):
    out = said("accounts/local/reinforcementFineTuningJobs/first", "--step", 1, "-o", tmp_path / "one")
    assert "the steps from 0 on are in it" in out
    assert "keepAllCheckpoints" in out
    assert len(list((tmp_path / "one" / "adapters").iterdir())) == 3
    shown = json.loads(said("first", "--step", 0, "-o", tmp_path / "zero", "--json"))
    assert (shown["step"], shown["first_step"], shown["folder"]) == (0, 0, str(tmp_path / "zero"))
    assert shown["files"] == sum(path.is_file() for path in (tmp_path / "zero").rglob("*"))


def test_a_torn_checkpoint_is_not_handed_out(trained: Platform, tmp_path: Path):
    run_dir = trained.control.settings.path("runs", "first", "run.json").parent
    (checkpoint_path(run_dir, 2) / "state.safetensors").write_bytes(STATE[:-1])
    assert json.loads(said("first", "--step", 2, "-o", tmp_path / "two", "--json"))["first_step"] == 0


def test_what_cannot_be_says_why_and_writes_nothing(trained: Platform, tmp_path: Path):
    path = f"{JOBS}/first:exportStep"
    assert "took no step 3. It took steps 0 to 2" in trained.fails(404, "GET", f"{path}?step=3")
    assert "none" in trained.fails(404, "GET", f"{JOBS}/none:exportStep?step=0")
    trained.fails(400, "GET", f"{path}?step=-1")
    trained.fails(400, "GET", path)
    assert "took no step 7" in said("first", "--step", 7, "-o", tmp_path / "seven", code=1)
    assert not (tmp_path / "seven").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert "/proc/x cannot be written (No such file or directory); nothing was fetched" in said(
        "first", "--step", 2, "-o", "/proc/x", code=1
    )
    assert "is not empty; nothing was written" in said("first", "--step", 2, "-o", full, code=1)
    assert [file.name for file in full.iterdir()] == ["mine.txt"]
    (tmp_path / "base" / "model.safetensors").unlink()
    (tmp_path / "base" / "model.safetensors").symlink_to(tmp_path / "gone")
    assert "model.safetensors cannot be read" in trained.fails(400, "GET", f"{path}?step=2")


def test_viewers_may_not(trained: Platform):
    route = "/v1/accounts/{account_id}/reinforcementFineTuningJobs/{job_id}:exportStep"
    with pytest.raises(PermissionDenied, match="ExportReinforcementFineTuningJobStep needs an API key"):
        check(Rights(Role.VIEWER), "GET", route)
    check(Rights(Role.CONTRIBUTOR), "GET", route)


def test_a_job_whose_files_gc_removed_says_so(trained: Platform, tmp_path: Path):
    with trained.control.sessions.begin() as session:
        ended = session.get_one(Job, "accounts/local/reinforcementFineTuningJobs/first")
        ended.state, ended.completed = "JOB_STATE_COMPLETED", time.time() - 10 * 86_400
    folder = str(trained.control.settings.data_dir)
    assert CliRunner().invoke(gc, ["--data-dir", folder, "--older-than", "1w"]).exit_code == 0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    removed = f"were removed on {today} by `tunesmith gc --older-than 7d`. Its figures and its model are still there"
    for path, sent in (
        (":extend", {"epochs": 1}),
        (":promote", {"version": 1}),
        (":rewind", {"version": 2}),
    ):
        assert removed in trained.fails(400, "POST", f"{JOBS}/first{path}", json=sent)
    assert removed in said("first", "--step", 2, "-o", tmp_path / "gone", code=1)
