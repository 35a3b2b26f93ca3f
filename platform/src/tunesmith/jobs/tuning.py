"""The handler of SFT and DPO jobs. Level-triggered: it brings the world to what the run directory says is left to do.

Write the inputs once, keep the one training process up until the run is final, and at the end make its output a model. Running it
twice, or again after a crash at any instant, does no harm: the process goes on from its checkpoints.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.catalog import BaseModelEntry
from tunesmith.db import jobs, throughputs
from tunesmith.db.models import ADAPTER, FULL_MODEL
from tunesmith.db.tables import Dataset, Model
from tunesmith.disk import NO_ROOM_EXIT, advice
from tunesmith.errors import FailedPrecondition, Internal, NoRoom
from tunesmith.jobs import promotion
from tunesmith.jobs.admission import tuning_need
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.memory import Need
from tunesmith.jobs.models import base_model, warm_start
from tunesmith.jobs.rft_processes import last_words
from tunesmith.launch import Process
from tunesmith.runs.config import BaseModelRef
from tunesmith.runs.files import write_atomic
from tunesmith.runs.tuning import Schedule, ScheduleKind, ThinkingHistory, TuningConfig, TuningLoss
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.settings import Settings
from tunesmith.storage.objects import ObjectStore

TRAINER = "trainer"
"""Name of a job's one process, and of its log."""
WATCH_SECONDS = 0.25
"""How often the process and its files are looked at."""
MOST_RESTARTS = 5
"""A process that signals end more often than this, without a step between them, ends the job."""
STOP_GRACE_SECONDS = 5.0
FINAL = {"COMPLETED", "FAILED"}


class TuningHandler(Handler):
    """Handler of `sft`, and of `dpo`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Carry the job to its end, or to its cancellation."""
        claim = _Claim(job, context)
        await claim.prepare()
        try:
            return await claim.train()
        finally:
            await claim.down()

    def need(self, spec: dict[str, Any], settings: Settings) -> Need | None:
        """The training process."""
        return tuning_need(spec, settings)

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """With the final state: the model, and how fast it was made."""
        if "promote" in outcome.data:
            promotion.promote(session, account=job.account, job=job.name, **outcome.data["promote"])
            throughputs.record(session, source=job.name, **outcome.data["throughput"])

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove the run directory and its log. The model that the job made stays."""
        await asyncio.to_thread(shutil.rmtree, context.settings.run_dir(job.id), ignore_errors=True)
        context.log(TRAINER).unlink(missing_ok=True)


class _Claim:
    """One claim of one job."""

    def __init__(self, job: ClaimedJob, context: JobContext) -> None:
        self.job, self.context = job, context
        self.settings = context.settings
        self.spec = TuningSpec.model_validate(job.spec)
        self.run_dir = self.settings.run_dir(job.id)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None
        self.restarts, self.step_of_restart = 0, -1
        self.peak_rss = 0
        self.reported: tuple[dict[str, Any], str] | None = None
        self.reached = int((job.progress.get("run") or {}).get("step") or 0)
        """The furthest step that was reported."""

    async def prepare(self) -> None:
        """The inputs, unless they are there; `run.json` last."""
        if self.status().get("state") == "FAILED":
            (self.run_dir / "status.json").unlink()  # of an earlier try: a resumed job is to be judged anew
        if (self.run_dir / "run.json").exists():
            return
        await self.report("JOB_STATE_VALIDATING")
        base = await asyncio.to_thread(base_model, self.settings, self.spec.base_model)
        await self.copy_rows(self.spec.dataset, "train.jsonl")
        if self.spec.evaluation_dataset:
            await self.copy_rows(self.spec.evaluation_dataset, "evaluation.jsonl")
        adapter = await warm_start(self.context, self.spec.warm_start_from)
        config = run_config(self.spec, self.job, self.run_dir, base, adapter, threads=self.settings.torch_threads)
        await asyncio.to_thread(write_atomic, self.run_dir / "run.json", config.model_dump_json(indent=1))

    async def train(self) -> Outcome:
        """Keep the process up until the run is final or cancelled."""
        while not self.context.cancelled.is_set() and self.status().get("state") not in FINAL:
            self.up()
            await self.report(self.state())
            await asyncio.sleep(WATCH_SECONDS)
        await self.down()
        status = self.status()
        await self.report(self.state())
        if status.get("state") == "FAILED":
            return Outcome(jobs.FAILED, status["message"], "FAILED_PRECONDITION")
        if status.get("state") != "COMPLETED":
            message = "Cancelled on request. Its checkpoints are kept until the job is deleted."
            return Outcome(jobs.CANCELLED, message, "CANCELLED")
        return await self.outcome(status)

    def up(self) -> None:
        """Start the process, or start it again after a signal ended it. Raises the cause when it cannot go on."""
        if self.process is None or not self.process.running:
            if self.process is not None:
                if self.status().get("state") in FINAL:
                    return  # it ended a moment ago
                self.died(self.process)
            argv = [sys.executable, "-m", "tunesmith.training", str(self.run_dir)]
            self.process = self.context.start(argv, name=TRAINER)

    def died(self, process: Process) -> None:
        """Decide whether a process that ended may be started again. Raises with the end of its log when not."""
        code, step = process.returncode or 0, int(self.status().get("step") or 0)
        if code == NO_ROOM_EXIT:
            raise NoRoom(advice("no space left", self.run_dir))
        if code > 0:
            raise FailedPrecondition(f"The training process ended with an error: {last_words(process)}")
        self.restarts = self.restarts + 1 if step <= self.step_of_restart else 1
        self.step_of_restart = step
        if self.restarts > MOST_RESTARTS:
            killed = " by the kernel, perhaps for want of memory," if code == -signal.SIGKILL else ""
            raise Internal(
                f"The training process was ended{killed} {self.restarts} times at step {step}; "
                f"the last time it said: {last_words(process)}"
            )

    async def down(self) -> None:
        """Stop the process, if it runs."""
        if self.process is not None and self.process.running:
            self.peak_rss = max(self.peak_rss, self.process.peak_rss())
            await self.process.stop(STOP_GRACE_SECONDS)

    def status(self) -> dict[str, Any]:
        """`status.json` of the run; empty before the process has written it."""
        path = self.run_dir / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def state(self) -> str:
        """VALIDATING until the rows were read, RUNNING from then on."""
        status = self.status()
        return "JOB_STATE_VALIDATING" if status.get("stage", "preparing") == "preparing" else jobs.RUNNING

    async def report(self, state: str) -> None:
        """Write the job's progress, where it changed."""
        status = self.status()
        before = {"percent": 0, "epoch": 0, "run": {}, **self.job.progress}  # what an earlier claim reported
        run = {}
        if status:
            run = {"percent": int(status.get("percent", 0)), "epoch": int(status.get("epoch", 0)), "run": status}
        progress = {**before, **run, "processes": self.processes()}
        if (progress, state) != self.reported:
            step = int(status.get("step") or 0)
            await self.context.progress(progress, state=state, moved_on=step > self.reached)
            self.reported, self.reached = (progress, state), max(step, self.reached)

    def processes(self) -> list[dict[str, Any]]:
        """Name, pid and peak resident memory (MiB)."""
        if self.process is None:
            return []
        if self.process.running:
            self.peak_rss = max(self.peak_rss, self.process.peak_rss())
        return [{"name": TRAINER, "pid": self.process.pid, "peak_rss_mib": round(self.peak_rss / 2**20, 1)}]

    async def outcome(self, status: dict[str, Any]) -> Outcome:
        """The end of a run that was trained to its end: its output is kept as a model."""
        output = self.run_dir / "output"
        result = json.loads((output / "result.json").read_text())
        trained_on, model = TuningConfig.read(self.run_dir).base_model.name, self.spec.output_model
        if result["kind"] == "model":
            kind, base = FULL_MODEL, await self.origin(trained_on)
            folder = await asyncio.to_thread(promotion.keep_model, self.settings, output, model, base)
        else:
            kind, base = ADAPTER, trained_on
            folder = await asyncio.to_thread(promotion.keep_adapter, self.settings, output, model)
        details = {"step": result["step"], "evalLoss": result["eval_loss"], "loss": self.spec.loss}
        promoted = {
            "name": model,
            "base_model": base,
            "adapter": folder,
            "sha256": result["sha256"],
            "kind": kind,
            "details": details,
        }
        throughput = {
            "base_model": trained_on,
            "work": self.job.kind,
            "tokens_per_second": float(status.get("tokens_per_second") or 0),
        }
        found = f" (evaluation loss {result['eval_loss']:.4f})" if result["eval_loss"] is not None else ""
        message = f"{model} is the model after step {result['step']} of {status['total_steps']}{found}."
        if status.get("rows_left_out"):
            left_out = f"{status['rows_left_out']} of {status['rows']} rows had no token to train on"
            message += f" {left_out} (weight 0, or longer than the context) and were left out."
        return Outcome(jobs.COMPLETED, message, data={"promote": promoted, "throughput": throughput})

    async def origin(self, base: str) -> str:
        """The catalogue's model behind a base that is itself a full model of the account."""
        row = await self.context.query(lambda session: session.get(Model, base))
        return row.base_model if row is not None else base

    async def copy_rows(self, name: str, filename: str) -> None:
        """The rows of a dataset as they were uploaded, as a file of the run."""
        dataset = await self.context.query(lambda session: session.get(Dataset, name))
        if dataset is None or dataset.object_key is None:
            raise FailedPrecondition(f"The dataset {name} has no rows any more; upload it again and start a new job.")
        target = self.run_dir / "data" / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        await asyncio.to_thread(ObjectStore.open(self.settings).download, dataset.object_key, partial)
        partial.replace(target)


def run_config(
    spec: TuningSpec, job: ClaimedJob, run_dir: Path, base: BaseModelEntry, warm_start: Path | None, *, threads: int
) -> TuningConfig:
    """`run.json` of a job whose rows lie in `data/`."""
    return TuningConfig(
        job=job.id,
        account=job.account.rsplit("/", 1)[-1],
        loss=TuningLoss(spec.loss),
        base_model=BaseModelRef(name=base.name, path=base.path),
        family=base.family,
        dataset=run_dir / "data" / "train.jsonl",
        evaluation_dataset=run_dir / "data" / "evaluation.jsonl" if spec.evaluation_dataset else None,
        eval_carve_out=spec.eval_auto_carveout,
        warm_start=warm_start,
        epochs=spec.epochs,
        batch_size_samples=spec.batch_size_samples,
        learning_rate=spec.learning_rate,
        schedule=Schedule(
            kind=ScheduleKind(spec.schedule),
            min_ratio=spec.min_lr_ratio,
            decay_ratio=spec.decay_ratio,
            warmup_steps=spec.warmup_steps,
        ),
        lora_rank=spec.lora_rank,
        lora_alpha=spec.lora_alpha,
        weight_decay=spec.weight_decay,
        beta=spec.beta,
        orpo_lambda=spec.orpo_lambda,
        max_context_length=spec.max_context_length,
        thinking_history=ThinkingHistory(spec.thinking_history),
        threads=threads,
    )
