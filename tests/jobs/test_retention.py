"""`tunesmith gc`: what is left over goes, what a job, a model or a deployment needs stays, and it can be killed at any point."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tunesmith.cli.lockfile import hold
from tunesmith.cli.retention import command
from tunesmith.db import jobs
from tunesmith.db.completions import Completion, CompletionStatus, CompletionStore, CorrelationIds
from tunesmith.db.session import reading
from tunesmith.db.tables import Dataset, Evaluator, EvaluatorVersion, Job, Model
from tunesmith.jobs import worker
from tunesmith.jobs.retention import collect
from tunesmith.runs.fork import rewindable_versions

from tests.jobs.conftest import ACCOUNT, working

DAY = 86_400.0
EVALUATOR = f"{ACCOUNT}/evaluators/e"


def age(path: Path, days: float) -> None:
    when = time.time() - days * DAY
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(each, (when, when))


def make(path: Path, size: int = 5000, days: float = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    age(path, days)
    return path


class World:
    """A data folder with one job of every sort, all of them old."""

    def __init__(self, settings, sessions) -> None:
        self.settings, self.sessions, self.data = settings, sessions, settings.data_dir

    def job(self, name: str, state: str = jobs.COMPLETED, days: float = 100, **spec: object) -> Path:
        full = f"{ACCOUNT}/reinforcementFineTuningJobs/{name}"
        with self.sessions.begin() as session:
            jobs.enqueue(session, full, ACCOUNT, "rft", {"base_model": "b", "evaluator": EVALUATOR, **spec})
            job = session.get_one(Job, full)
            job.state, job.progress = state, {"checkpoints": [0, 2], "percent": 100}
            job.completed = time.time() - days * DAY if state in jobs.FINAL_STATES else None
        folder = self.data / "runs" / name
        for file in ("run.json", "events.jsonl", "rollouts.jsonl", "batches/step-000000.safetensors"):
            make(folder / file)
        make(folder / "adapters" / "v000000" / "adapter_model.safetensors")
        make(folder / "checkpoints" / "step-000002" / "state")
        return folder

    async def call(self, store: CompletionStore, name: str, job: str | None) -> None:
        ids = CorrelationIds(rollout_id=f"r-{name}")
        fields = {"prompt_ids": [1] * 400, "sampled_ids": [2] * 400, "logprobs": [0.0] * 400}
        record = Completion(
            id=name, created_at=1.0, account=ACCOUNT, job=job, ids=ids, turn=0, index=0, model="m", base_model="b",
            policy_version=None, temperature=1.0, finish_reason="stop", status=CompletionStatus.COMPLETE, request={},
            message={}, text="", params={}, usage={}, latency=0.1, **fields,
        )  # fmt: skip
        await store.add([record])


@pytest.fixture
def world(settings, sessions) -> World:
    return World(settings, sessions)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


WHOLE = {"run.json", "events.jsonl", "rollouts.jsonl", "batches", "adapters", "checkpoints"}


async def test_what_is_needed_stays_and_the_rest_goes(world, settings, sessions):
    old, failed = (
        world.job("old"),
        world.job("failed", jobs.FAILED, evaluator_dir=str(world.data / "evaluators/local/e/2")),
    )
    running, fresh = world.job("running", jobs.RUNNING, rewound_from=None), world.job("fresh", days=2)
    source = world.job("source")
    world.job("fork", jobs.PENDING, rewound_from=f"{ACCOUNT}/reinforcementFineTuningJobs/source", evaluator="other")
    served = world.job("served")
    nobody = make(world.data / "runs" / "gone" / "run.json")
    age(nobody.parent, 100)
    with sessions.begin() as session:
        adapter = str(served / "adapters" / "v000000")
        session.add(Model(name="m", account=ACCOUNT, base_model="b", adapter_path=adapter, sha256=""))
        session.add(Dataset(name="d", account=ACCOUNT, spec={}, object_key="datasets/local/d/1.jsonl"))
        session.get_one(Job, f"{ACCOUNT}/reinforcementFineTuningJobs/running").spec = {"evaluator": "another"}
        long_ago = time.time() - 100 * DAY
        for version in (1, 2, 3):
            build = make(world.data / "evaluators" / "local" / "e" / str(version) / "src" / "f.py").parents[1]
            age(build, 100)
            facts = {
                "evaluator": EVALUATOR,
                "version": version,
                "archive_key": f"evaluators/local/e/{version}/s.tar.gz",
            }
            session.add(EvaluatorVersion(name=f"{EVALUATOR}/versions/{version}", build_dir=str(build), state="ACTIVE",
                                         created=long_ago, updated=long_ago, **facts))  # fmt: skip
            make(settings.path("objects", facts["archive_key"]))
        session.add(
            Evaluator(name=EVALUATOR, account=ACCOUNT, spec={}, version=3, state="ACTIVE", build_dir=str(build))
        )
    kept = make(settings.path("objects", "datasets", "local", "d", "1.jsonl"))
    orphan = make(settings.path("objects", "datasets", "local", "d", "2.jsonl"))
    young = make(settings.path("objects", "datasets", "local", "d", "3.jsonl"), days=0)
    upload, log = make(settings.path("uploads", "left")), make(settings.path("logs", "old-learner.log"))
    logs = [make(settings.path("logs", name)) for name in ("web.log", "failed-learner.log")]
    store = CompletionStore(settings.path("completions.db"))
    for name, job in (("a", "old"), ("b", "failed"), ("c", None), ("d", "fresh")):
        await world.call(store, name, job)
    dry = collect(settings, sessions, older_than=30 * DAY, dry_run=True)
    assert names(old) == WHOLE, "a dry run removes nothing"
    done = collect(settings, sessions, older_than=30 * DAY)
    assert [each.name for each in done.leftovers] == [each.name for each in dry.leftovers]
    assert done.total_bytes == dry.total_bytes > 20_000
    assert names(old) == {"run.json", "events.jsonl"}
    assert rewindable_versions(old) == []
    for folder in (failed, running, fresh, source, served):
        assert names(folder) == WHOLE, folder
    assert not nobody.parent.exists()
    assert names(world.data / "evaluators/local/e") == {"2", "3"}, "of a job that can be resumed, and the current one"
    assert [path.exists() for path in (kept, orphan, young, upload, log, *logs)] == [
        True,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert [bool(store.of_rollout(f"r-{name}")) for name in "abcd"] == [False, True, True, True]
    store.close()
    with reading(sessions) as session:
        progress = session.get_one(Job, f"{ACCOUNT}/reinforcementFineTuningJobs/old").progress
        assert progress.pop("removed")["by"] == "`tunesmith gc`"
        assert progress == {"checkpoints": [], "percent": 100}
        version = session.get_one(EvaluatorVersion, f"{EVALUATOR}/versions/1")
        assert (version.state, version.build_dir) == ("BUILD_FAILED", None)
        assert "source is kept" in version.status["message"]
    assert collect(settings, sessions, older_than=30 * DAY).leftovers == [], "the second time there is nothing left"


def test_killed_in_the_middle_it_is_run_again(world, settings, sessions, monkeypatch):
    folder = world.job("old")
    removed: list[Path] = []

    def remove_two(path: Path, trash: Path) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path)
        trash.mkdir(exist_ok=True)
        path.rename(trash / path.name)  # and the kill came before it was deleted

    with monkeypatch.context() as patch:
        patch.setattr("tunesmith.jobs.retention.collector.remove", remove_two)
        with pytest.raises(KeyboardInterrupt):
            collect(settings, sessions, older_than=DAY)
    assert len(names(world.data / ".trash")) == 2
    collect(settings, sessions, older_than=DAY)
    assert (names(folder), names(world.data / ".trash")) == ({"run.json", "events.jsonl"}, set())


def test_a_file_that_a_model_shares_is_not_counted(world, settings, sessions):
    folder = world.job("old")
    adapter = folder / "adapters" / "v000000" / "adapter_model.safetensors"
    before = collect(settings, sessions, older_than=DAY, dry_run=True).total_bytes
    kept = settings.path("objects", "models", "local", "m", "adapter_model.safetensors")
    os.link(adapter, kept)
    assert (
        before - collect(settings, sessions, older_than=DAY, dry_run=True).total_bytes == adapter.stat().st_blocks * 512
    )
    collect(settings, sessions, older_than=DAY)
    assert kept.read_bytes() == b"x" * 5000


def test_the_databases_get_smaller(world, settings, sessions):
    async def fill() -> None:
        store = CompletionStore(settings.path("completions.db"))
        for number in range(300):
            await world.call(store, f"c{number}", "old")
        store.close()

    world.job("old")
    asyncio.run(fill())
    collected = collect(settings, sessions, older_than=DAY)
    assert collected.database_bytes > 300 * 3 * 400 * 4 // 2


def test_the_command_prints_what_it_removed(world, settings, sessions, monkeypatch):
    folder = world.job("old")
    arguments = ["--data-dir", str(settings.data_dir), "--older-than", "7d"]
    said = CliRunner().invoke(command, [*arguments, "--dry-run"]).output
    assert "run directories" in said
    assert "Would remove" in said
    answer = CliRunner().invoke(command, [*arguments, "--json"])
    found = json.loads(answer.stdout)
    assert [item["name"] for item in found["items"]] == [f"{ACCOUNT}/reinforcementFineTuningJobs/old"]
    assert found["bytes"] > 0
    assert names(folder) == {"run.json", "events.jsonl"}
    assert "is not an age" in CliRunner().invoke(command, ["--older-than", "soon"]).output
    nowhere = CliRunner().invoke(command, ["--data-dir", str(settings.data_dir / "elsewhere")])
    assert (nowhere.exit_code, "no data folder of Tunesmith" in nowhere.output) == (1, True)


def test_what_is_less_than_a_day_old_is_asked_about(world, settings, sessions):
    folder = world.job("fresh", days=0.1)
    arguments = ["--data-dir", str(settings.data_dir), "--older-than", "0h"]
    refused = CliRunner().invoke(command, arguments)
    assert refused.exit_code == 1
    assert "--older-than 0s removes what jobs of the last day left, too: 1 thing. " in refused.output
    assert "--dry-run; with --yes it goes." in refused.output
    assert names(folder) == WHOLE
    ours, theirs = pty.openpty()  # a person's terminal
    for answer, left in ((b"n\n", WHOLE), (b"y\n", {"run.json", "events.jsonl"})):
        os.write(ours, answer)
        asked = subprocess.run(
            [sys.executable, "-m", "tunesmith", "gc", *arguments],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "though some of it is less than a day old? [y/N]" in asked.stderr
        assert names(folder) == left
    os.close(ours)
    os.close(theirs)
    world.job("second", days=0.1)
    assert CliRunner().invoke(command, [*arguments, "--yes"]).exit_code == 0
    assert names(world.data / "runs" / "second") == {"run.json", "events.jsonl"}


class Asked:
    """`tunesmith gc` in front of a person, who has been asked and has not answered yet."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.ours, self._theirs = pty.openpty()
        command = [sys.executable, "-m", "tunesmith", "gc", "--data-dir", str(world.data), *arguments]
        self._process = subprocess.Popen(command, stdin=self._theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        self.said = b""
        while not self.said.endswith(b"[y/N]: "):
            byte = self._process.stderr.read(1)
            assert byte, self.said
            self.said += byte

    def answer(self, text: str) -> int:
        os.write(self.ours, f"{text}\n".encode())
        self._process.communicate()
        os.close(self.ours)
        os.close(self._theirs)
        return self._process.returncode


def test_only_what_was_shown_goes(world, settings, sessions):
    """Whatever ends, or comes into use, while the question stands open."""
    shown, forked = world.job("shown", days=0.1), world.job("forked", days=0.1)
    asked = Asked(world, "--older-than", "0h")
    later = world.job("later", days=0)
    world.job("fork", jobs.PENDING, rewound_from=f"{ACCOUNT}/reinforcementFineTuningJobs/forked")
    assert asked.answer("y") == 0
    assert [names(folder) for folder in (shown, later, forked)] == [{"run.json", "events.jsonl"}, WHOLE, WHOLE]


def test_it_asks_about_nothing_that_is_older_than_a_day(world, settings):
    old, fresh = world.job("old", days=90), world.job("fresh", days=0.1)
    arguments = ["--data-dir", str(settings.data_dir), "--older-than"]
    refused = CliRunner().invoke(command, [*arguments, "0h"])
    assert "what jobs of the last day left, too: 1 thing. Nothing was removed." in refused.output
    done = CliRunner().invoke(command, [*arguments, "12h"])
    assert (done.exit_code, names(old), names(fresh)) == (0, {"run.json", "events.jsonl"}, WHOLE), done.output


def test_the_platform_can_be_started_while_it_asks(world):
    folder = world.job("fresh", days=0.1)
    asked = Asked(world, "--older-than", "0h")
    with hold(world.data / "up.lock"):
        assert asked.answer("y") == 0
    assert names(folder) == {"run.json", "events.jsonl"}


async def test_the_worker_collects_once_a_day_where_a_retention_is_set(world, settings, sessions, monkeypatch):
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    folder = world.job("old")
    settings = settings.model_copy(update={"retention_days": 30.0})
    async with working(settings, sessions, []):
        while not (world.data / "collected.json").exists():
            await asyncio.sleep(0.05)
    assert names(folder) == {"run.json", "events.jsonl"}
    assert json.loads((world.data / "collected.json").read_text())["items"]
