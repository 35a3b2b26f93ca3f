"""From the last release to this version with a job in flight: `tunesmith up` of then is killed, that of now takes the data folder over.

The last release is the newest tag `v*`, else the commit in `upgrade_from.txt`. It runs from a git worktree of its own in this environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.loop import projects
from tests.loop.platform import REPO, Platform
from tests.loop.test_story import create_rft

pytestmark = pytest.mark.upgrade
STEPS = 15


def git(*arguments: object) -> str:
    return subprocess.run(
        ["git", *map(str, arguments)], cwd=REPO, check=True, capture_output=True, text=True
    ).stdout.strip()


def last_release() -> str:
    """What is upgraded from."""
    tags = git("tag", "--list", "v*", "--sort=-version:refname").splitlines()
    wanted = tags[0] if tags else (Path(__file__).parent / "upgrade_from.txt").read_text().strip()
    try:
        return git("rev-parse", "--verify", f"{wanted}^{{commit}}")
    except subprocess.CalledProcessError:
        pytest.fail(f"{wanted}, which is upgraded from, is not in this clone. Fetch it: git fetch --unshallow --tags")


@pytest.fixture
def release(short_tmp: Path) -> Iterator[Path]:
    """The last release's files, with the wheels that it gives to evaluators."""
    folder = short_tmp / "old"
    git("worktree", "add", "--detach", folder, last_release())
    try:
        subprocess.run([sys.executable, "scripts/build_sdk_wheels.py"], cwd=folder, check=True, capture_output=True)
        yield folder
    finally:
        git("worktree", "remove", "--force", folder)
        shutil.rmtree(folder, ignore_errors=True)


def kill_all(platform: Platform) -> None:
    """kill -9 of `tunesmith up` and everything below it, and wait until they are gone."""
    assert platform.process is not None
    tree = [psutil.Process(platform.process.pid), *psutil.Process(platform.process.pid).children(recursive=True)]
    for process in tree:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    platform.process.wait(30)
    psutil.wait_procs(tree, timeout=30)


def test_a_job_in_flight_survives_the_upgrade(short_tmp, release):
    platform = Platform(short_tmp / "h", lease_seconds=5)
    today = dict(platform.env)
    platform.env["PYTHONPATH"] = os.pathsep.join(str(release / part / "src") for part in ("platform", "sdk"))
    try:
        platform.start()
        script = "import tunesmith.db.session as module; print(module.__file__)"
        found = platform.run(sys.executable, "-c", script, cwd=short_tmp).stdout
        assert str(release) in found, "the release runs its own files"
        project = projects.write(short_tmp / "project", dataset=projects.rows(15))
        flags = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "5", "--epochs", "5")
        name, _ = create_rft(platform, project, "--output-model", "carried", *flags)
        while (platform.job(name).get("run") or {}).get("optimizer_steps", 0) < 1:
            time.sleep(0.05)
        kill_all(platform)
        platform.env = today
        platform.start()
        job = platform.wait(name)
        assert job["state"] == "JOB_STATE_COMPLETED", job
        metrics = platform.get(f"/v1/{name}/metrics")["metrics"]
        assert [line["step"] for line in metrics] == list(range(STEPS)), "no step is lost or doubled"
        rollouts = platform.all_rollouts(name)
        valid = [(row["step"], row["rowIndex"], row["k"]) for row in rollouts if row["isScoreValid"]]
        assert len(valid) == len(set(valid)) == STEPS * 5 * 4, "no rollout was scored twice"
        assert platform.chat("accounts/local/models/carried", "How many?", max_tokens=4)["choices"]
        platform.stop()
        platform.env["PYTHONPATH"] = os.pathsep.join(str(release / part / "src") for part in ("platform", "sdk"))
        back = platform.run(sys.executable, "-m", "tunesmith", "up", "--data-dir", platform.data_dir, cwd=short_tmp)
        assert back.returncode != 0
        assert "written by a newer one" in back.stdout
    finally:
        if platform.process is not None and platform.process.poll() is None:
            kill_all(platform)
