"""What a running RFT job measures, handed on to trackers: TensorBoard files in the run directory, and a process each for W&B and MLflow.

Nothing here fails or slows a job: a tracker that cannot be reached is tried again by its own process, one that gave up is left alone, and a
disk that is full costs the event file its newest points until there is room.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path

from tunesmith.db.secrets import secret_values
from tunesmith.errors import TunesmithError
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.launch import Process
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.storage.keys import load_keys
from tunesmith.trackers.tensorboard import EventFile

log = logging.getLogger(__name__)

MOST_STARTS = 3
"""Starts of one tracker's process in one claim of a job."""
LAST_WORDS_SECONDS = 10.0
"""How long the end of a job waits for its trackers to send the rest."""
POLL_SECONDS = 0.1


class RunTrackers:
    """The trackers of one claim of a job."""

    def __init__(self, run_dir: Path, job: ClaimedJob, context: JobContext, spec: RftSpec) -> None:
        self._run_dir, self._job, self._context, self._spec = run_dir, job, context, spec
        self._events = EventFile(run_dir)
        self._said = ""
        mlflow = context.settings.mlflow_tracking_uri
        self._wanted = [name for name, wanted in (("mlflow", mlflow), ("wandb", spec.wandb is not None)) if wanted]
        self._processes: dict[str, Process] = {}
        self._starts = dict.fromkeys(self._wanted, 0)

    async def follow(self) -> None:
        """Write what is new, and keep the processes up."""
        try:
            await asyncio.to_thread(self._events.catch_up)
        except (OSError, ValueError, KeyError) as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("%s: the TensorBoard file was not written: %s", self._job.name, error)
        if not (self._run_dir / "run.json").exists():
            return
        for name in self._wanted:
            process = self._processes.get(name)
            ended = process is None or (not process.running and process.returncode != 0)
            if ended and self._starts[name] < MOST_STARTS:
                self._starts[name] += 1
                try:
                    self._processes[name] = await self._start(name)
                except (OSError, TunesmithError) as error:
                    log.warning("%s: the %s tracker was not started: %s", self._job.name, name, error)

    async def down(self) -> None:
        """Let the processes send the rest, for a few seconds, then stop them."""
        await self.follow()
        until = time.monotonic() + (LAST_WORDS_SECONDS if self._is_final() else 0.0)
        running = [process for process in self._processes.values() if process.running]
        while any(process.running for process in running) and time.monotonic() < until:
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.gather(*(process.stop(2.0) for process in running if process.running))

    async def _start(self, name: str) -> Process:
        spec, settings = self._spec, self._context.settings
        params = {
            "base_model": spec.base_model,
            "dataset": spec.dataset,
            "evaluator": f"{spec.evaluator}/versions/{spec.evaluator_version}",
            **{
                field: str(getattr(spec, field))
                for field in ("epochs", "learning_rate", "lora_rank", "n", "chunk_size", "loss")
            },
            "temperature": str(spec.temperature),
        }
        config = {"job": self._job.name, "mlflow": settings.mlflow_tracking_uri, "wandb": spec.wandb, "params": params}
        write_atomic(self._run_dir / "trackers.json", json.dumps(config))
        env = dict(os.environ)
        if name == "wandb":
            master = load_keys(settings).master
            secrets = await self._context.query(lambda session: secret_values(session, self._job.account, master))
            env["WANDB_API_KEY"] = secrets.get("WANDB_API_KEY", "")
        argv = [sys.executable, "-m", "tunesmith.trackers", str(self._run_dir), "--only", name]
        return self._context.start(argv, name=f"tracker-{name}", env=env)

    def _is_final(self) -> bool:
        try:
            state = json.loads((self._run_dir / "status.json").read_text()).get("state")
        except (OSError, ValueError):
            return False
        return state in ("COMPLETED", "EARLY_STOPPED", "FAILED", "CANCELLED")
