"""Trackers held against the real programs, in an environment that has them: `make check-trackers`.

TensorBoard's own reader gives back every point; a real MLflow server, whose tracker is started twice, has each point once; W&B's package
writes an offline run. Prints claim, number, pass or fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

STEPS = 4
JOB = "accounts/local/reinforcementFineTuningJobs/check"
READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]); events.Reload()
print(json.dumps({tag: [[e.step, round(e.value, 4)] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""
failed = 0


def claim(text: str, number: object, passed: bool) -> None:
    """Print one line; a fail counts."""
    global failed
    failed += not passed
    print(f"{'pass' if passed else 'FAIL'}  {text}: {number}", flush=True)


def write_run(run_dir: Path) -> None:
    """A finished run of a few steps."""
    run_dir.mkdir()
    with (run_dir / "events.jsonl").open("w") as events, (run_dir / "metrics.jsonl").open("w") as metrics:
        for step in range(STEPS):
            chunk = {"kind": "chunk", "chunk": step, "step": step, "mean_score": step / 10, "time": 1.7e9 + step}
            events.write(json.dumps(chunk) + "\n")
            metrics.write(json.dumps({"step": step, "loss": 1.0 - step / 10}) + "\n")
    (run_dir / "status.json").write_text('{"state": "COMPLETED"}')


def track(run_dir: Path, only: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the tracker's process to its end."""
    argv = [sys.executable, "-m", "tunesmith.trackers", str(run_dir), "--only", only]
    return subprocess.run(argv, env={**os.environ, **environ}, capture_output=True, text=True, timeout=300)


def check_tensorboard(run_dir: Path) -> None:
    """TensorBoard reads what was written, in two goes, once."""
    from tunesmith.trackers.tensorboard import EventFile  # noqa: PLC0415 - the environment has the checked source only here

    EventFile(run_dir).catch_up()
    EventFile(run_dir).catch_up()
    argv = [sys.executable, "-W", "ignore", "-c", READ, str(run_dir / "tensorboard")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    expected = [[step, round(step / 10, 4)] for step in range(STEPS)]
    claim("TensorBoard reads reward/mean", found.get("reward/mean"), found.get("reward/mean") == expected)
    claim("TensorBoard reads train/loss", len(found.get("train/loss", [])), len(found.get("train/loss", [])) == STEPS)


def check_mlflow(run_dir: Path, work: Path) -> None:
    """A real server has every point once, after two trackers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{work / 'mlflow.db'}"
    argv = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--backend-store-uri", store, "--default-artifact-root", str(work), "--workers", "1"]
    with (work / "mlflow.log").open("w") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"The MLflow server ended:\n{(work / 'mlflow.log').read_text()[-1500:]}") from None
                time.sleep(0.5)
        else:
            raise SystemExit(f"The MLflow server did not answer:\n{(work / 'mlflow.log').read_text()[-1500:]}")
        config = {"job": JOB, "mlflow": uri, "wandb": {}, "params": {"epochs": "1"}}
        (run_dir / "trackers.json").write_text(json.dumps(config))
        codes = [track(run_dir, "mlflow").returncode for _ in range(2)]
        claim("MLflow trackers end well", codes, codes == [0, 0])

        def call(path: str, body: dict[str, object] | None = None) -> dict[str, object]:
            data = json.dumps(body).encode() if body else None
            request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)

        experiment = call("experiments/get-by-name?experiment_name=tunesmith")["experiment"]["experiment_id"]
        runs = call("runs/search", {"experiment_ids": [experiment]})["runs"]
        history = call(f"metrics/get-history?run_id={runs[0]['info']['run_id']}&metric_key=reward/mean")["metrics"]
        steps = [int(metric["step"]) for metric in history]
        claim("MLflow has one run", len(runs), len(runs) == 1)
        claim("MLflow has each point once", steps, steps == list(range(STEPS)))
        claim("its run is finished", runs[0]["info"]["status"], runs[0]["info"]["status"] == "FINISHED")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def check_wandb(run_dir: Path) -> None:
    """W&B's own package keeps an offline run that holds the points."""
    done = track(run_dir, "wandb", WANDB_MODE="offline", WANDB_SILENT="true")
    files = [*run_dir.glob("wandb/offline-run-*/*.wandb")]
    claim("W&B writes an offline run", len(files), done.returncode == 0 and len(files) == 1)
    content = files[0].read_bytes() if files else b""
    counts = {
        name: content.count(name.encode()) for name in ("mean", "loss")
    }  # nested keys are kept apart: reward, mean
    claim("it holds the figures", counts, min(counts.values()) >= STEPS)
    sent = (run_dir / "wandb.sent").read_text().split()
    claim("and what was sent", sent, sent.count(str(STEPS)) == 2)


def main() -> int:
    """Run every check; exit status 1 when one fails."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        write_run(run_dir)
        check_tensorboard(run_dir)
        check_mlflow(run_dir, Path(folder))
        check_wandb(run_dir)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
