"""kill -9 of each process of a running job, at random instants: the job goes on, and no step is lost or doubled."""

from __future__ import annotations

import json
import random
import time

import psutil

from tests.loop import projects
from tests.loop.platform import FINAL
from tests.loop.test_story import create_rft, names_of

VICTIMS = ("learner", "orchestrator", "evaluator host", "engine", "worker", "web")
STEPS = 12


def running(platform) -> dict[str, int]:
    """Our processes below `tunesmith up`, by name."""
    children = psutil.Process(platform.process.pid).children(recursive=True)
    return names_of({child.pid for child in children})


def run_job(platform, project, output: str, victims: tuple[str, ...], seed: int) -> tuple[dict, list[str]]:
    """One job, killing each victim once after a random number of steps; returns the job and who was killed."""
    flags = ("--output-model", output, "--max-output-tokens", "24", "--epochs", "3", "--chunk-size", "10", "--n", "4")
    name, _ = create_rft(platform, project, *flags)
    rng, killed, waiting = random.Random(seed), [], list(victims)
    step = 0
    while True:
        job = state_of(platform, name)
        if job is not None and job["state"] in FINAL:
            return job, killed
        now = (job or {}).get("run", {}).get("optimizer_steps", 0) if job else step
        if waiting and now >= 1 + len(killed):
            time.sleep(rng.uniform(0, 0.4))
            victim = running(platform).get(waiting[0])
            if victim is not None:
                psutil.Process(victim).kill()
                killed.append(waiting.pop(0))
        time.sleep(0.05)


def state_of(platform, name):
    """The job, or None while the web process is being restarted."""
    try:
        return platform.job(name)
    except OSError:
        return None


def test_every_process_may_die_and_the_job_goes_on(platform, short_tmp):
    project = projects.write(short_tmp / "kills", dataset=projects.rows(40))
    job, killed = run_job(platform, project, "killed", VICTIMS, seed=5)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert killed == list(VICTIMS)
    run_dir = platform.data_dir / "runs" / job["name"].rsplit("/", 1)[-1]
    assert job["run"]["optimizer_steps"] == STEPS
    assert sorted(p.name for p in (run_dir / "batches").glob("*.safetensors")) == [
        f"step-{step:06d}.safetensors" for step in range(STEPS)
    ]
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == list(range(STEPS)), "no step is lost or doubled"
    records = [json.loads(line) for line in (run_dir / "rollouts.jsonl").read_text().splitlines()]
    scored = [(r["chunk"], r["row_index"], r["k"]) for r in records if r["kind"] == "train" and r["is_score_valid"]]
    assert len(scored) == len(set(scored)) == STEPS * 10 * 4, "each rollout was scored once"
    stored = platform.get(f"/v1/{job['name']}/metrics")
    assert [line["step"] for line in stored["metrics"]] == list(range(STEPS)), "the database says the same"
    answer = platform.chat("accounts/local/models/killed", "How many?", max_tokens=4)
    assert answer["choices"]
