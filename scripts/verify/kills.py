"""The same job twice: once undisturbed, once while its processes, or all of them, are killed (SIGKILL) at random instants.

Sampling noise is counter-based and log-probabilities do not depend on what else runs, so both must end with the same adapter, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.story import BIN, REPO, Story

JOB = "verify-kills"
ROWS, CHUNK, EPOCHS = 60, 10, 2
SINGLE = (
    "tunesmith.training",
    "tunesmith.orchestrator",
    "tunesmith.engines",
    "eval_protocol.host",
    "tunesmith.jobs",
    "tunesmith.server",
)
LONGEST_SECONDS = 420


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    state: str
    steps: list[int]
    """Steps of metrics.jsonl, in order."""
    sha256: str
    """Of the last adapter's weights."""
    killed: list[str]


def run(folder: Path, model: str, kills: list[str], seed: int) -> Ended:
    """One job on a platform of its own in `folder`; `kills` names modules, or "everything".

    Raises RuntimeError when it does not end in time.
    """
    project = folder / "project"
    shutil.rmtree(folder, ignore_errors=True)
    project.mkdir(parents=True)
    example = REPO / "examples" / "gsm8k"
    for name in ("evaluation.py", "requirements.txt"):
        shutil.copy(example / name, project)
    rows = (example / "gsm8k_sample.jsonl").read_text().splitlines(keepends=True)[:ROWS]
    (project / "gsm8k_sample.jsonl").write_text("".join(rows))

    story = Story(folder, project, port=0)  # two begin at once, and would find the same one free
    story.start()
    try:
        options = ["--chunk-size", CHUNK, "--epochs", EPOCHS, "--n", 8, "--max-output-tokens", 48]
        command = ["create", "rft", "--base-model", model, "--job-id", JOB, "--skip-validation", "--yes", *options]
        story.run([BIN / "ep", *command])
        killed = _follow(story, list(kills), random.Random(seed))
        run_dir = folder / "data" / "runs" / JOB
        steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        weights = max((run_dir / "adapters").glob("v*")) / "adapter_model.safetensors"
        state = story.job(JOB)["state"]
        return Ended(state, steps, hashlib.sha256(weights.read_bytes()).hexdigest(), killed)
    finally:
        story.stop()


def _follow(story: Story, waiting: list[str], rng: random.Random) -> list[str]:
    """Kill what waits to be killed, one after another, each at a random instant of another step, until the job has ended."""
    killed: list[str] = []
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        try:
            job = story.job(JOB)
        except OSError:  # the web process is being restarted
            time.sleep(0.1)
            continue
        if job["state"] in (
            "JOB_STATE_COMPLETED",
            "JOB_STATE_FAILED",
            "JOB_STATE_CANCELLED",
            "JOB_STATE_EARLY_STOPPED",
        ):
            return killed
        if waiting and job.get("run", {}).get("optimizer_steps", 0) >= 1 + 2 * len(killed):
            time.sleep(rng.uniform(0, 0.6))
            if _kill(story, waiting[0]):
                killed.append(waiting.pop(0))
        time.sleep(0.05)
    raise RuntimeError(f"the job did not end within {LONGEST_SECONDS} s; logs: {story.folder / 'data' / 'logs'}")


def _kill(story: Story, what: str) -> bool:
    """Whether it was there to be killed."""
    if what == "everything":
        story.kill()
        story.start()
        return True
    for process in psutil.Process(story.pid).children(recursive=True):
        try:
            if what in process.cmdline():
                process.kill()
                return True
        except psutil.Error:
            continue
    return False
