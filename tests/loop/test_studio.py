"""The studio as a person uses it: one command, edits in the folder and in the page, control, a rewind that repeats, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tunesmith.cli.studio_example import EXAMPLES
from tunesmith.runs.batch import Batch

from tests.loop.platform import BIN, FINAL, free_port

RED = '    return {"red": share(shape.colour == "red" for shape in drawn)}\n'


class Studio:
    """`tunesmith studio` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.data_dir, self.folder = home, home / "d", home / "reward"
        self.url = f"http://127.0.0.1:{free_port()}"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "TUNESMITH_"))}
        self.env = {**env, "HOME": str(home), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        example = self.home / "small"
        shutil.copytree(EXAMPLES / "svg", example)
        settings = json.loads((example / "studio.json").read_text())
        settings["job"] |= {"chunkSize": 4}
        settings["job"]["inferenceParameters"]["responseCandidatesCount"] = 4
        (example / "studio.json").write_text(json.dumps(settings))
        argv = [BIN / "tunesmith", "studio", "--example", example, "--no-open"]
        argv += ["--data-dir", self.data_dir, "--folder", self.folder]
        with open(self.home / "studio.log", "ab") as log:
            argv += ["--port", self.url.rsplit(":", 1)[1]]
            self.process = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, cwd=self.home)

    @property
    def said(self) -> str:
        return (self.home / "studio.log").read_text()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        key = (self.data_dir / "keys" / "account.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, data, headers, method=method), timeout=60
        ) as answer:
            return json.loads(answer.read())

    def drawn(self, job: str) -> int:
        """Rollouts that are recorded."""
        return (self.run_dir(job) / "rollouts.jsonl").read_text().count("\n")

    def until(self, what: Callable[[], Any], seconds: float = 180) -> Any:
        """What `what` comes to once it is true."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)
        return found

    def in_force(self, job: str) -> dict[str, Any]:
        return self.call("GET", f"/v1/{job}")["control"]["inForce"] or {}

    def paused(self, job: str) -> bool:
        found = self.call("GET", f"/v1/{job}")
        assert found["state"] not in FINAL, found["status"]
        return (found.get("run") or {}).get("message", "").startswith("paused")

    def run_dir(self, job: str) -> Path:
        return self.data_dir / "runs" / job.rsplit("/", 1)[-1]

    def adapter(self, job: str, version: int) -> str:
        return json.loads((self.run_dir(job) / "adapters" / f"v{version:06d}" / "canary.json").read_text())["sha256"]


@pytest.fixture
def studio() -> Iterator[Studio]:
    with tempfile.TemporaryDirectory(prefix="ts") as home:
        running = Studio(Path(home) / "h")
        running.start()
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.process.terminate()
                running.process.wait(60)


def test_a_reward_is_edited_while_a_model_learns(studio: Studio) -> None:
    page = studio.until(
        lambda: re.search(r"http://\S+/dashboard/studio/(\S+)", studio.said if _started(studio) else "")
    )
    job = f"accounts/local/reinforcementFineTuningJobs/{page[1]}"
    studio.call("POST", f"/v1/{job}:control", {"steps": 1})
    file = studio.folder / "evaluation.py"
    source = file.read_text()
    evaluator = studio.call("GET", f"/v1/{job}")["evaluator"]

    # What cannot be imported is told, and changes nothing.
    file.write_text(source + "def broken(:\n")
    studio.until(lambda: "Version 2 cannot be used" in studio.said)
    assert "SyntaxError" in studio.said
    studio.until(lambda: studio.paused(job))
    assert studio.in_force(job)["evaluatorVersion"] == 1
    versions = studio.call("GET", f"/v1/{job}")["run"]["version"]

    # What can is in force from the next step on, also while the job is paused; the step says what it was taken with.
    file.write_text(re.sub(r"    pairs = list.*?\n(?=\n\n)", RED, source, count=1, flags=re.DOTALL))
    studio.until(lambda: studio.in_force(job)["evaluatorVersion"] == 3)
    sealed = studio.run_dir(job) / "batches" / f"step-{versions:06d}.safetensors"
    while not sealed.exists():  # sixteen drawings may all have as little red, which is nothing to learn from
        drawn = studio.drawn(job)
        studio.call("POST", f"/v1/{job}:control", {"steps": 1, "learningRate": 0.001})
        studio.until(lambda drawn=drawn: sealed.exists() or (studio.drawn(job) > drawn and studio.paused(job)))
    header = Batch.read(studio.run_dir(job) / "batches" / f"step-{versions:06d}.safetensors").header
    assert (header.evaluator_version, header.learning_rate) == ("3", 0.001)
    studio.until(lambda: studio.paused(job))
    records = [json.loads(line) for line in (studio.run_dir(job) / "rollouts.jsonl").read_text().splitlines()]
    reds = [record["row"]["evaluation_result"]["metrics"] for record in records if record["step"] == versions]
    assert {name for metrics in reds[-16:] for name in metrics} <= {"red"}

    # An edit of the page comes back into the folder.
    edit = {"baseVersion": 3, "files": {"evaluation.py": source + "\n# from the page\n"}, "message": "page"}
    studio.call("POST", f"/v1/{evaluator}:edit", edit)
    studio.until(lambda: file.read_text().endswith("# from the page\n"))
    assert "Version 4 was made in the page: written to evaluation.py." in studio.said

    # Rewound without a change, it comes to the same weights.
    studio.call("POST", f"/v1/{job}:control", {"autoEvaluatorVersion": False, "evaluatorVersion": None})
    again = studio.call("POST", f"/v1/{job}:rewind", {"version": versions - 1})
    assert (again["rewoundFrom"], again["evaluatorVersion"]) == (job, 1)
    studio.call("POST", f"/v1/{again['name']}:control", {"steps": 1})
    studio.until(lambda: studio.paused(again["name"]))
    assert studio.call("GET", f"/v1/{again['name']}")["run"]["version"] == versions
    assert studio.adapter(again["name"], versions) == studio.adapter(job, versions)

    # Ctrl-C leaves the job paused and the platform stopped.
    studio.process.send_signal(signal.SIGINT)
    assert studio.process.wait(60) == 0, studio.said
    assert "is paused; `tunesmith studio` goes on with it" in studio.said
    with pytest.raises(urllib.error.URLError):
        studio.call("GET", "/health")


def _started(studio: Studio) -> bool:
    return (studio.home / "studio.log").exists()
