"""kill -9 of each process of an SFT and a DPO job, at random instants: the same weights as undisturbed; and jobs that are cancelled."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.loop import tuning
from tests.loop.projects import BASE
from tests.loop.test_story import names_of
from tests.loop.tuning import create, get, metrics, run, sha256, upload

VICTIMS = ("learner", "worker", "web")
STEPS = 27
OPTIONS = ("--eval-auto-carveout", "--epochs", "3", "--batch-size-samples", "4")
"""A job of `STEPS` steps."""


@pytest.fixture(scope="module", autouse=True)
def rows(platform, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    upload(platform, folder, "kill-chats", tuning.chats(40))
    upload(platform, folder, "kill-pairs", tuning.pairs(40))


def running(platform) -> dict[str, psutil.Process]:
    """Our processes below `tunesmith up`, by name."""
    children = psutil.Process(platform.process.pid).children(recursive=True)
    return {name: psutil.Process(pid) for name, pid in names_of({child.pid for child in children}).items()}


def steps_of(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b'"loss"') if path.exists() else 0


def disturb(platform, job: str, at: int, seed: int) -> list[tuple[str, int]]:
    """Kill each victim once, the first from step `at` on, the others some steps later. Who died, and at which step."""
    run_dir, rng = platform.data_dir / "runs" / job, random.Random(seed)
    killed: list[tuple[str, int]] = []
    deadline = time.monotonic() + 120
    while len(killed) < len(VICTIMS) and time.monotonic() < deadline:
        victim = VICTIMS[len(killed)]
        if (run_dir / "run.json").exists() and steps_of(run_dir) >= at:
            process = running(platform).get(victim)
            if process is not None:
                time.sleep(0 if at else rng.uniform(0, 0.5))
                process.kill()
                killed.append((victim, steps_of(run_dir)))
                at = killed[-1][1] + rng.randint(1, 6)
        time.sleep(0.01)
    return killed


@pytest.mark.parametrize(
    ("command", "dataset", "at"),
    [("sftj", "kill-chats", 0), ("dpoj", "kill-pairs", 3)],
    ids=["SFT, first while it reads the rows", "DPO, first while it trains"],
)
def test_every_process_may_die_and_the_weights_are_the_same(platform, command, dataset, at):
    plain, killed = f"{command}-plain", f"{command}-killed"
    create(platform, command, plain, dataset, *OPTIONS)
    with ThreadPoolExecutor(1) as terminal:
        followed = terminal.submit(create, platform, command, killed, dataset, *OPTIONS)
        deaths = disturb(platform, killed, at, seed=7)
    print(command, deaths)
    assert [name for name, _ in deaths] == list(VICTIMS)
    assert deaths[-1][1] < STEPS, "the last one died before the end"

    assert f"COMPLETED: accounts/local/models/{killed}" in followed.result(), "who follows a job sees its end"
    assert sha256(platform, killed) == sha256(platform, plain)
    lines, undisturbed = metrics(platform, command, killed), metrics(platform, command, plain)
    for kind in ("loss", "eval_loss"):
        one, other = ([(line["step"], line[kind]) for line in each if kind in line] for each in (lines, undisturbed))
        assert one == other, "no step is lost, doubled or different"


def test_a_job_that_is_cancelled_ends_and_can_be_deleted(platform):
    start = ("--base-model", BASE, "--dataset", "kill-chats", "--epochs", "900", "--job-id", "cancelled")
    run(platform, "sftj", "create", *start)
    run_dir = platform.data_dir / "runs" / "cancelled"
    while steps_of(run_dir) < 2:
        time.sleep(0.05)
    assert "RUNNING" in run(platform, "sftj", "resume", "cancelled"), "it goes on as it is"
    run(platform, "sftj", "cancel", "cancelled")
    job = platform.wait(get(platform, "sftj", "cancelled")["name"])
    assert job["state"] == "JOB_STATE_CANCELLED"
    assert "learner" not in running(platform)
    assert "only a FAILED job can be resumed" in run(platform, "sftj", "resume", "cancelled", status=1)
    assert "no model" in run(platform, "model", "get", "cancelled", status=1)
    assert metrics(platform, "sftj", "cancelled"), "what it did can still be read"
    assert "Deleted cancelled." in run(platform, "sftj", "delete", "cancelled")
    deadline = time.monotonic() + 15
    while run_dir.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not run_dir.exists()
    assert "no SFT job" in run(platform, "sftj", "get", "cancelled", status=1)
