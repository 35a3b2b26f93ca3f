"""The platform from a notebook, against a real web process: rows go up once, jobs start, results come as lists of dicts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eval_protocol import client
from eval_protocol.client import Job, JobFailed, Platform
from eval_protocol.client.errors import Missing, NotAllowed, Refused, Unreachable
from eval_protocol.errors import UsageError
from eval_protocol.models import EvaluationRow, Message
from tunesmith.db.jobs import FAILED
from tunesmith.db.tables import Job as JobRow

from tests.server import conftest as server
from tests.server.conftest import BASE_MODEL, ROW
from tests.server.test_model_export_cli import home as with_model
from tests.server.test_rft_compare import make

# The web process of the server's tests, and one with a model `m`.
bundle, settings, running, with_model = server.bundle, server.settings, server.platform, with_model
platform = running  # what `with_model` asks for
NAME = "accounts/local/reinforcementFineTuningJobs/"


@pytest.fixture
def drive(running: server.Platform) -> Iterator[Platform]:
    with Platform(running.url, running.key) as found:
        yield found


def test_the_public_surface() -> None:
    names = ["Job", "JobFailed", "Model", "PackedProject", "Platform", "PlatformError", "pack"]
    assert sorted(client.__all__) == sorted(names)
    assert all(getattr(client, name) for name in names)
    public = {
        Platform: "account_id api_base call close command_environment create_rft download infer job jobs model pages upload",
        Job: "cancel data events export extend id is_final logs metrics model promote refresh resume rollouts state wait",
        client.Model: "complete export generate name",
    }
    for kind, expected in public.items():
        own = {name for name in vars(kind) if not name.startswith("_")}
        assert own <= set(expected.split()), kind
    code = "import eval_protocol.client, sys; print('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_rows_and_options_become_a_job(running: server.Platform, drive: Platform, tmp_path: Path) -> None:
    running.evaluator("e")
    rows = [{**ROW, "n": index} for index in range(4)]
    job = drive.create_rft(
        evaluator="e",
        dataset=rows,
        base_model=BASE_MODEL,
        job_id="mine",
        epochs=2,
        n=4,
        learning_rate=2e-3,
        chunk_size=2,
        extra_body={"seed": 3},
        method="GRPO",
        eval_auto_carveout=True,
    )
    assert (job.id, job.state, job.is_final) == ("mine", "PENDING", False)
    assert job.data["trainingConfig"]["epochs"] == 2
    assert job.data["trainingConfig"]["learningRate"] == 2e-3
    assert job.data["inferenceParameters"]["responseCandidatesCount"] == 4
    assert job.data["chunkSize"] == 2
    assert job.data["lossConfig"]["method"] == "GRPO"
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows))
    assert drive.upload(file) == drive.upload(rows) == job.data["dataset"]
    assert len(running.ok("GET", "/datasets")["datasets"]) == 1, "the same rows are there once"
    row = EvaluationRow(messages=[Message(role="user", content="hi")])
    assert drive.upload([row, row]) != job.data["dataset"]
    assert [found.id for found in drive.jobs()] == ["mine"]
    assert repr(job.cancel()) == "Job('mine', CANCELLED)"


def test_what_is_wrong_is_said(
    running: server.Platform, drive: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running.evaluator("e")
    with pytest.raises(UsageError, match="no rows"):
        drive.upload([])
    with pytest.raises(UsageError, match="Row 2 of the dataset is int"):
        drive.upload([ROW, 7])
    with pytest.raises(Refused, match="messages"):
        drive.upload([{"nothing": 1}])
    assert running.ok("GET", "/datasets")["datasets"] == [], "what was refused is not left behind"
    with pytest.raises(Refused, match="rewardWeights"):
        drive.create_rft(evaluator="e", dataset=[ROW], base_model=BASE_MODEL, reward_weights=[1])
    with pytest.raises(Refused, match="whole distribution"):
        drive.create_rft(evaluator="e", dataset=[ROW], base_model=BASE_MODEL, top_p=0.5)
    with pytest.raises(Missing, match="no RFT job"):
        drive.job("nobody")
    with pytest.raises(NotAllowed):
        Platform(running.url, "fw_wrong")
    with pytest.raises(UsageError, match="together"):
        Platform(running.url)
    with pytest.raises(UsageError, match="another folder"):
        drive.model("m").export(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for name in ("FIREWORKS_API_KEY", "FIREWORKS_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="No platform is configured"):
        Platform()
    with pytest.raises(UsageError, match="not with http"):
        drive.model("m").export(tmp_path / "new", format="gguf")


def test_results_are_lists_of_dicts(running: server.Platform, drive: Platform) -> None:
    make(running, "a", rollouts=4)
    job = drive.job(NAME + "a")
    steps = job.metrics()
    assert steps
    assert {"step", "loss", "mean_score"} <= set(steps[0])
    assert {event["kind"] for event in job.events("chunk")} == {"chunk"}
    rollouts = job.rollouts(order_by="score desc", limit=2)
    assert [rollout["rolloutId"] for rollout in rollouts] == ["a-3", "a-2"]
    assert rollouts[0]["row"]["messages"]
    assert len(job.rollouts()) == 4
    assert job.rollouts(valid=False) == []
    assert isinstance(job.logs(tail=5), list)
    picture = job._repr_html_()
    assert "<b>a</b>" in picture
    assert "<script" not in picture


def test_waiting_ends_with_the_job(
    running: server.Platform, drive: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    make(running, "a", rollouts=2)
    job = drive.job("a")
    with running.control.sessions.begin() as session:
        session.get_one(JobRow, NAME + "a").state = "JOB_STATE_RUNNING"
    with pytest.raises(TimeoutError, match="RUNNING after 0 s of waiting; it goes on"):
        job.wait(timeout=0)
    with running.control.sessions.begin() as session:
        row = session.get_one(JobRow, NAME + "a")
        row.state, row.status = FAILED, {"code": "INTERNAL", "message": "the disk is full"}
    with pytest.raises(JobFailed, match="Job a failed: the disk is full"):
        job.wait()
    assert "epoch 0  step 1/" in capsys.readouterr().err
    assert job.wait(check=False, progress=False).state == "FAILED"


def test_a_loop_that_runs_already_is_no_hindrance(running: server.Platform) -> None:
    async def cell() -> str:
        return Platform(running.url, running.key).account_id

    assert asyncio.run(cell()) == "local"


def test_a_model_is_saved_and_called(with_model: server.Platform, tmp_path: Path) -> None:
    platform = Platform()
    model = platform.model("m")
    folder = model.export(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with pytest.raises(Refused, match="engine|supervisor|Start"):
        model.generate("What is 2 + 2?", temperature=0)  # no engine runs beside this web process
    with pytest.raises(UsageError, match="Streaming is for an OpenAI client"):
        model.complete("hi", stream=True)
    platform.close()


def test_a_platform_that_is_gone_is_named(drive: Platform) -> None:
    with pytest.raises(Unreachable, match="tunesmith up"):
        Platform("http://127.0.0.1:9", "key")
