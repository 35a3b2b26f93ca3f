"""A backup of a running platform with a job in flight, restored elsewhere: the job ends there, and its model is served."""

from __future__ import annotations

import json
import time

from tests.loop import projects
from tests.loop.platform import BIN, Platform
from tests.loop.test_story import create_rft

STEPS = 15


def test_a_job_in_flight_goes_on_from_a_backup(short_tmp):
    archive = short_tmp / "b.tar.zst"
    with Platform(short_tmp / "a") as platform:
        project = projects.write(short_tmp / "project", dataset=projects.rows(15))
        flags = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "5", "--epochs", "5")
        name, _ = create_rft(platform, project, "--output-model", "carried", *flags)
        while (platform.job(name).get("run") or {}).get("optimizer_steps", 0) < 1:
            time.sleep(0.05)
        made = platform.run(
            BIN / "tunesmith", "backup", archive, "--json", "--data-dir", platform.data_dir, cwd=short_tmp
        )
        assert made.returncode == 0, made.stdout
        assert json.loads(made.stdout)["bytes"] == archive.stat().st_size
        assert archive.stat().st_mode & 0o777 == 0o600
        taken = platform.run(BIN / "tunesmith", "restore", archive, "--data-dir", platform.data_dir, cwd=short_tmp)
        assert (taken.returncode, "is not empty" in taken.stdout) == (1, True), taken.stdout
        platform.request("POST", f"/v1/{name}:cancel", {})
    other = Platform(short_tmp / "b")
    restored = other.run(BIN / "tunesmith", "restore", archive, "--json", "--data-dir", other.data_dir, cwd=short_tmp)
    assert restored.returncode == 0, restored.stdout
    assert json.loads(restored.stdout)["unfinishedJobs"] == 1
    (short_tmp / "a" / "d").rename(short_tmp / "gone")  # nothing of the first platform is needed any more
    with other:
        job = other.wait(name)
        assert job["state"] == "JOB_STATE_COMPLETED", job
        metrics = other.get(f"/v1/{name}/metrics")["metrics"]
        assert [line["step"] for line in metrics] == list(range(STEPS)), "no step is lost or doubled"
        rollouts = other.all_rollouts(name)
        valid = [(row["step"], row["rowIndex"], row["k"]) for row in rollouts if row["isScoreValid"]]
        assert len(valid) == len(set(valid)) == STEPS * 5 * 4
        assert other.chat("accounts/local/models/carried", "How many?", max_tokens=4)["choices"]
