"""Two jobs at once: what befalls one (kill -9 of its processes, an evaluator that fails it) leaves the other alone."""

from __future__ import annotations

import json
import time

import psutil

from tests.loop import projects
from tests.loop.platform import FINAL, Platform
from tests.loop.test_story import create_rft

FLAGS = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "5")


def pids(job: dict) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in job.get("processes") or []}


def test_one_jobs_failure_leaves_the_others_alone(short_tmp):
    with Platform(short_tmp / "h", concurrent_rft_jobs=2, lease_seconds=5) as platform:
        good = projects.write(short_tmp / "good", dataset=projects.rows(20))
        steady, _ = create_rft(platform, good, "--output-model", "steady", "--epochs", "2", *FLAGS)
        bad = projects.write(short_tmp / "bad", "raises_mostly", dataset=projects.rows(10))
        failing, _ = create_rft(platform, bad, "--output-model", "failing", *FLAGS)
        third, _ = create_rft(platform, good, "--output-model", "third", "--epochs", "1", *FLAGS)
        killed: set[str] = set()
        together, queued = False, {}
        while (job := platform.job(steady))["state"] not in FINAL:
            others = [platform.job(name) for name in (failing, third)]
            together |= any(other["state"] == "JOB_STATE_RUNNING" for other in others)
            queued |= {job["name"]: job["queue"] for job in (job, *others) if job.get("queue")}
            for other in others:  # and the third loses each of its processes once
                if other["name"] == third and (other.get("run") or {}).get("optimizer_steps", 0) >= 1:
                    for name, pid in pids(other).items():
                        if name not in killed and psutil.pid_exists(pid):
                            psutil.Process(pid).kill()
                            killed.add(name)
            time.sleep(0.1)
        ends = {name: platform.wait(name) for name in (steady, failing, third)}
        assert ends[failing]["state"] == "JOB_STATE_FAILED"
        assert "have no valid score" in ends[failing]["status"]["message"]
        for name, steps in ((steady, 8), (third, 4)):
            assert ends[name]["state"] == "JOB_STATE_COMPLETED", ends[name]
            metrics = platform.get(f"/v1/{name}/metrics")["metrics"]
            assert [line["step"] for line in metrics] == list(range(steps)), "no step is lost or doubled"
        assert together, "they ran at the same time"
        assert third in queued, "two at a time: the third stood in the queue"
        assert queued[third]["position"] >= 1
        run_dir = platform.data_dir / "runs" / steady.rsplit("/", 1)[-1]
        asked = json.loads((run_dir / "asked.json").read_text())
        assert max(asked.values()) == 0, "nothing of the undisturbed job was rolled out twice"
        for model in ("steady", "third"):
            assert platform.chat(f"accounts/local/models/{model}", "How many?", max_tokens=4)["choices"]
