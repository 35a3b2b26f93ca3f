"""Machines as they are: full disks, no UTF-8, dead proxies, few files, another user, a clock that is set, an engine that hangs.

Here the conditions come together, on two platforms; `make check-bad-machines` meets them one by one and prints what a user reads.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.loop import machines, projects
from tests.loop.machines import Wrapped, until
from tests.loop.platform import FINAL, Platform
from tests.loop.test_kills import running, state_of
from tests.loop.test_several_jobs import pids
from tests.loop.test_story import create_rft

pytestmark = pytest.mark.skipif(
    not machines.can_mount(), reason="mounts small disks and becomes another user: needs root that may mount"
)
LONG = bool(os.environ.get("TUNESMITH_LONG_BAD_MACHINES"))
DAY = 86_400
WORDS = "Grüße 🍎"
REASON = "bewertet: schön 🍐"
FLAGS = ("--max-output-tokens", "16", "--n", "4", "--chunk-size", "5")
STEPS = 4
CONDITIONS = {
    "no UTF-8 (LANG=C, LC_ALL=POSIX)": ("words",),
    "proxies to a dead port": ("proxy",),
    "ulimit -n 256, hard limit above": ("files",),
    "not root": ("user",),
    "umlauts and spaces in every path": ("paths",),
    "the clock a day ahead in mid-job, and back": ("clock",),
}
EVERYTHING = tuple(part for parts in CONDITIONS.values() for part in parts)
TOLD: list[tuple[str, str, str]] = []
"""Condition, what happened, what the user reads."""
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "bad_machines.md"


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    if LONG:
        RESULTS.write_text(told(TOLD))
        print(f"\n{RESULTS.read_text()}")


def told(lines: list[tuple[str, str, str]]) -> str:
    """The table of what happened and what a user reads, each thing once; temporary folders without their names."""
    rows = [
        "| "
        + " | ".join(re.sub(r"/tmp/[^/\s]+", "/tmp/…", cell).replace("|", "\\|").replace("\n", " ") for cell in line)
        + " |"
        for line in lines
    ]
    head = "# Bad machines\n\n`make check-bad-machines` wrote this.\n\n| what was wrong | what happened | what the user reads |\n|---|---|---|\n"
    return head + "\n".join(dict.fromkeys(rows)) + "\n"


class Machine:
    """One platform on a bad machine, with a project whose words are not ASCII."""

    def __init__(self, folder: Path, parts: tuple[str, ...]) -> None:
        root = folder / ("Grüne Äpfel" if "paths" in parts else "a")
        root.mkdir()
        env: dict[str, str | None] = {}
        env |= machines.poor_words() if "words" in parts else {}
        env |= machines.dead_proxy() if "proxy" in parts else {}
        clock, self._moved = machines.clock(folder) if "clock" in parts else ({}, None)
        prefix = machines.few_files(256, 4096) if "files" in parts else ()
        prefix += machines.as_another_user() if "user" in parts else ()
        home = root / ("Jürgen 🦊" if "paths" in parts else "h")
        self.platform = Wrapped(home, prefix=prefix, env=env | clock, lease_seconds=6)
        rows = projects.rows(10)
        for row in rows:
            row["messages"][0]["content"] = f"{WORDS} {row['messages'][0]['content']}"
        said = projects.HEADER + "    print('Ergebnis: grün 🍏')\n" + projects.BODIES["dense"]
        source = said + projects.FOOTER.replace("'scored'", f"'{REASON}'")
        self.project = projects.write(
            root / ("Projekt für Obst" if "paths" in parts else "p"), source=source, dataset=rows
        )
        home.mkdir()
        if "user" in parts:
            folder.chmod(0o755)
            subprocess.run(["chown", "-R", "nobody", root], check=True)

    def move_clock(self, seconds: int) -> None:
        if self._moved is not None:
            self._moved.write_text(str(seconds))


def follow(machine: Machine, name: str, stress: dict[int, Any]) -> dict[str, Any]:
    """Wait for a job's end; `stress[step]` is done once that many steps were taken."""
    while True:
        job = state_of(machine.platform, name)
        if job is not None and job["state"] in FINAL:
            assert not stress, f"ended before {sorted(stress)}"
            return job
        step = ((job or {}).get("run") or {}).get("optimizer_steps", 0)
        for due in [each for each in stress if each <= step]:
            stress.pop(due)()


def whole(platform: Platform, job: dict[str, Any], steps: int, chunk: int = 5, n: int = 4) -> None:
    """No step lost or doubled, in files and database, and every rollout scored once."""
    assert job["state"] == "JOB_STATE_COMPLETED", job["status"]
    run_dir = platform.data_dir / "runs" / job["name"].rsplit("/", 1)[-1]
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == list(range(steps)), "no step is lost or doubled"
    stored = platform.get(f"/v1/{job['name']}/metrics")["metrics"]
    assert [line["step"] for line in stored] == list(range(steps)), "the database says the same"
    records = [json.loads(line) for line in (run_dir / "rollouts.jsonl").read_text().splitlines()]
    scored = [(r["chunk"], r["row_index"], r["k"]) for r in records if r["kind"] == "train" and r["is_score_valid"]]
    assert len(scored) == len(set(scored)) == steps * chunk * n, "each rollout was scored once"


def hang_engine(platform: Platform, until_answered: threading.Event) -> None:
    """SIGSTOP the engine while a call waits for it; the call is answered when it goes on."""
    engine = psutil.Process(running(platform)["engine"])
    engine.suspend()
    try:
        calling = threading.Thread(
            target=lambda: (platform.chat(projects.BASE, "How many?", max_tokens=2), until_answered.set())
        )
        calling.start()
        calling.join(35 if LONG else 3)
        assert not until_answered.is_set(), "it could not have been answered"
    finally:
        engine.resume()
    calling.join(120)


def kill_web_under_load(platform: Platform, calls: int) -> list[str]:
    """Kill the web process while `calls` streams are read; ids of the calls that ended whole."""
    streams = [machines.Stream(platform, projects.BASE) for _ in range(calls)]
    for stream in streams:
        stream.start()
    until(lambda: sum(stream.begun for stream in streams) >= calls // 4, "a quarter of the streams to begin")
    os.kill(running(platform)["web"], signal.SIGKILL)
    for stream in streams:
        stream.join(120)
    assert not any(stream.is_alive() for stream in streams)
    torn = [stream.said for stream in streams if stream.whole and '"finish_reason":null' in stream.said[-1]]
    assert not torn, "what looks whole is whole"
    until(lambda: state_answers(platform), "the web process to be there again")
    return [stream.id for stream in streams if stream.whole]


def state_answers(platform: Platform) -> bool:
    try:
        return bool(platform.get("/health"))
    except OSError:
        return False


def stored_calls(platform: Platform) -> set[str]:
    with sqlite3.connect(f"file:{platform.data_dir / 'completions.db'}?mode=ro", uri=True) as connection:
        return {
            name.rsplit("-", 1)[0]
            for (name,) in connection.execute("SELECT id FROM completions WHERE status = 'complete'")
        }


def survive(machine: Machine, calls: int) -> dict[str, Any]:
    """One job; on the way the clock is set, the engine hangs and is killed, and the web process is killed under load."""
    platform, answered, ended = machine.platform, threading.Event(), []
    name, said = create_rft(platform, machine.project, "--output-model", "obst", "--epochs", "2", *FLAGS)
    assert "Traceback" not in said

    def ahead() -> None:
        machine.move_clock(DAY)
        hang_engine(platform, answered)

    def back() -> None:
        machine.move_clock(0)
        os.kill(running(platform)["engine"], signal.SIGKILL)
        ended.extend(kill_web_under_load(platform, calls))

    job = follow(machine, name, {1: ahead, 2: back})
    whole(platform, job, STEPS)
    assert answered.is_set()
    assert set(ended) <= stored_calls(platform), "every stream that ended whole is stored"
    rollouts = platform.get(f"/v1/{name}/rollouts?pageSize=100")["rollouts"]
    assert all(WORDS in rollout["prompt"] for rollout in rollouts)
    assert {rollout["reason"] for rollout in rollouts if rollout["isScoreValid"]} == {REASON}
    for command in (["tunesmith", "job", "logs", name], ["tunesmith", "rftj", "list"], ["ep", "local-test", "--help"]):
        shown = platform.run(*command, cwd=machine.project)
        assert "Traceback" not in shown.stdout, shown.stdout
    assert platform.chat("accounts/local/models/obst", WORDS, max_tokens=4)["choices"]
    return job


@pytest.mark.skipif(LONG, reason="one by one in the long form")
def test_a_job_on_a_machine_with_everything_against_it(short_tmp):
    machine = Machine(short_tmp, EVERYTHING)
    with machine.platform:
        survive(machine, calls=16)
        web = psutil.Process(running(machine.platform)["web"])
        assert web.uids().effective != 0
        limits = Path(f"/proc/{web.pid}/limits").read_text()
        allowed = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5]
        assert allowed == ["4096", "4096"], "the soft limit was raised to the hard one"


@pytest.mark.skipif(not LONG, reason="together in the default form")
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_job_on_each_bad_machine(short_tmp, condition):
    machine = Machine(short_tmp, CONDITIONS[condition])
    with machine.platform:
        job = survive(machine, calls=64)
    reads = f"{job['state']}: {job['status']['message']}"
    TOLD.append(
        (
            condition + "; engine stopped for 35 s and killed, web killed under 64 streams",
            "no step lost or doubled",
            reads,
        )
    )


def tried(what: Any) -> tuple[int, str]:
    """Status and message of a call that may fail; (200, "") when it did not."""
    try:
        what()
    except urllib.error.HTTPError as error:
        body = json.loads(error.read())
        return error.code, str(body.get("message") or body["error"]["message"])
    return 200, ""


def test_the_disk_runs_full_and_the_job_goes_on(short_tmp):
    with (
        machines.small_disk(short_tmp / "h", 64) as disk,
        Wrapped(short_tmp / "h", env={}, lease_seconds=6) as platform,
    ):
        project = projects.write(short_tmp / "p", dataset=projects.rows(20))
        # 64 MB are enough to serve from, and not for an evaluator's environment.
        assert platform.chat(projects.BASE, "How many?", max_tokens=2)["choices"]
        create = ("ep", "create", "rft", "--yes", "--skip-validation", "--base-model", projects.BASE)
        refused = platform.run(*create, cwd=project)
        assert refused.returncode != 0
        assert "no space left" in refused.stdout.lower(), refused.stdout
        assert "Traceback" not in refused.stdout
        TOLD.append(
            (
                "a data folder of 64 MB",
                "the evaluator's environment does not fit",
                last_line_with(refused.stdout, "space"),
            )
        )

        machines.resize(disk, 240)
        flags = ("--output-model", "small", "--epochs", "2" if LONG else "1", *FLAGS)
        name, _ = create_rft(platform, project, *flags)
        rounds, steps = (6, 8) if LONG else (1, 4)
        for filled in range(rounds):
            until(lambda least=filled: steps_of(platform, name) > least or ended(platform, name), "the next step")
            if ended(platform, name):
                break
            fill_and_free(platform, disk, name, project)
        job = platform.wait(name)
        whole(platform, job, steps)
        assert not list((platform.data_dir / "runs").rglob("*.tmp")), "nothing half written is left"
        assert platform.chat("accounts/local/models/small", "How many?", max_tokens=2)["choices"]
        connection = sqlite3.connect(f"file:{platform.data_dir / 'tunesmith.db'}?mode=ro", uri=True)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def fill_and_free(platform: Platform, disk: Path, name: str, project: Path) -> None:
    """Fill the disk, see the job's processes give up and requests be refused with the reason, and make room again."""
    job = platform.job(name)
    before = {pid for process, pid in pids(job).items() if process in ("learner", "orchestrator")}
    ballast = machines.fill(disk)
    try:
        until(
            lambda: not all(map(psutil.pid_exists, before)) or ended(platform, name), "a process to meet the full disk"
        )
        upload = {"datasetId": "late", "dataset": {"userUploaded": {}}}
        accepted = [tried(lambda: platform.request("POST", "/v1/accounts/local/datasets", upload))]
        accepted.append(tried(lambda: platform.chat(projects.BASE, "How many?", max_tokens=2)))
        for status, message in accepted:  # what still fits into the database's log is taken, and then kept
            assert status in (200, 409) or (status == 507 and "no space left" in message), (status, message)
        said = platform.job(name)["status"].get("message") or ""
        TOLD.append(("the disk is full in mid-job", f"requests: {accepted}", said))
    finally:
        ballast.unlink()
    assert tried(lambda: platform.chat(projects.BASE, "How many?", max_tokens=2)) == (200, "")
    if accepted[0][0] == 200:
        assert platform.get("/v1/accounts/local/datasets/late"), "what was accepted is kept"


def steps_of(platform: Platform, name: str) -> int:
    return (platform.job(name).get("run") or {}).get("optimizer_steps", 0)


def ended(platform: Platform, name: str) -> bool:
    return platform.job(name)["state"] in FINAL


def last_line_with(text: str, words: str) -> str:
    return [line.strip() for line in text.splitlines() if words in line.lower()][-1]


def up(short_tmp: Path, data_dir: Path) -> str:
    """What `tunesmith up` says when it cannot start."""
    platform = Wrapped(short_tmp / "h", env={})
    said = platform.run("tunesmith", "up", "--port", "0", "--data-dir", data_dir, cwd=short_tmp)
    assert said.returncode == 1
    assert "Traceback" not in said.stdout
    return said.stdout


def test_up_says_at_once_when_the_data_folder_cannot_be_written(short_tmp):
    with machines.small_disk(short_tmp / "disk", 4) as disk:
        machines.fill(disk)
        full = up(short_tmp, disk / "d")
        assert "no space left" in full.lower()
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        read_only = up(short_tmp, disk / "d")
        assert "Read-only file system" in read_only
        assert "--data-dir" in read_only
    TOLD.append(("a full disk at start", "it does not start", full.strip()))
    TOLD.append(("a read-only data folder", "it does not start", read_only.strip()))


@pytest.mark.skipif(not LONG, reason="in the long form")
def test_memory_runs_out_in_the_learner(short_tmp):
    """Its address space is capped where it is: either smaller pieces fit, or the job says what to do and goes on when resumed."""
    with Wrapped(short_tmp / "h", env={}, lease_seconds=6) as platform:
        project = projects.write(short_tmp / "p", dataset=projects.rows(10))
        name, _ = create_rft(platform, project, "--output-model", "tight", "--epochs", "2", *FLAGS)
        until(lambda: steps_of(platform, name) >= 1, "the first step")
        learner = psutil.Process(pids(platform.job(name))["learner"])
        learner.rlimit(psutil.RLIMIT_AS, (learner.memory_info().vms, psutil.RLIM_INFINITY))
        job = platform.wait(name)
        reads = f"{job['state']}: {job['status']['message']}"
        if job["state"] == "JOB_STATE_FAILED":
            assert "ran out of memory" in reads or "does not fit into memory" in reads
            assert "resume the job" in reads
            platform.request("POST", f"/v1/{name}:resume")
            job = platform.wait(name)
        whole(platform, job, STEPS)
        TOLD.append(("no more memory for the learner", "resumed where it failed, or taken in smaller pieces", reads))
