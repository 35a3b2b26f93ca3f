"""The handler of RFT jobs. Level-triggered: it brings the world to what the run directory says is left to do.

Validate and write the inputs, keep three processes up (`rft_processes`), take their files into the database (`ingest`), and at
the end promote the best adapter (`promotion`). Running it twice, or again after a crash at any instant, does no harm.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy.orm import Session

from tunesmith.db import jobs, policies, rollouts
from tunesmith.db.api_keys import delete_keys_of_job, new_key
from tunesmith.db.secrets import secret_values
from tunesmith.db.tables import Job
from tunesmith.errors import FailedPrecondition, TunesmithError
from tunesmith.evaluators.client import HostClient
from tunesmith.evaluators.hosts import EvaluatorHost, environment, start_host
from tunesmith.jobs import dataset_rows, promotion, rft_inputs
from tunesmith.jobs.admission import rft_need
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.ingest import AUDIT_FILE, EVENTS_FILE, ROLLOUTS_FILE
from tunesmith.jobs.memory import Need
from tunesmith.jobs.models import base_model, warm_start
from tunesmith.jobs.rft_audit import Auditor
from tunesmith.jobs.rft_control import Steering
from tunesmith.jobs.rft_processes import FINAL, RunProcesses
from tunesmith.jobs.rft_progress import RunProgress
from tunesmith.jobs.rft_resume import take_up
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import adapter_path, file_mark
from tunesmith.runs.fork import fork_run
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys
from tunesmith.storage.objects import ObjectStore

WATCH_SECONDS = 0.25
"""How often the processes of a run are looked at, and whether it has ended."""
REPORT_SECONDS = 1.0
"""How often what a run writes is taken in: each time is a transaction, and rollouts end by the dozen a second."""
QUIET_REPORT_SECONDS = 4.0
"""The same while no file of the run tells of anything new: memory, say."""
REPORTED_FILES = (
    "status.json",
    ROLLOUTS_FILE,
    EVENTS_FILE,
    AUDIT_FILE,
    rollouts.METRICS_FILE,
    "checkpoints",
    "adapters",
)
"""While these are as they were there is nothing to take in."""
PAUSED_WATCH_SECONDS = 1.0
"""The same while it is paused."""


class RftHandler(Handler):
    """Handler of `rft`."""

    kind = "rft"

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Carry the job to its end, or to its cancellation."""
        claim = _Claim(job, context)
        try:
            resumed = job.progress.get("resumed")
            await asyncio.to_thread(take_up, claim.run_dir, resumed, context.settings.base_url)
            await claim.validate()
            return await claim.train()
        except TunesmithError:
            await claim.retire_policies()
            raise
        finally:
            await claim.steering.stop()
            if claim.auditor is not None:
                await claim.auditor.stop()
            await claim.processes.down()
            await claim.progress.close()

    def need(self, spec: dict[str, Any], settings: Settings) -> Need | None:
        """Learner, host and orchestrator, and an engine unless one of that base model runs."""
        return rft_need(spec, settings)

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """With the final state: the model, if any, and the end of the job's keys and live policies."""
        if "promote" in outcome.data:
            promotion.promote(session, account=job.account, job=job.name, **outcome.data["promote"])
        _end_access(session, job)

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove the run directory and its rows in the database. The model that the job made stays."""
        run_dir = context.settings.run_dir(job.id)

        def forget(session: Session) -> None:
            _end_access(session, job)  # a job whose worker died before its deletion was never settled
            rollouts.forget(session, job.name, f"{run_dir}/")

        await context.transaction(forget)
        await asyncio.to_thread(shutil.rmtree, run_dir, ignore_errors=True)
        for folder in [context.settings.path("hosts", job.id), *context.settings.path("hosts").glob(f"{job.id}.v*")]:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for process in ("evaluator-host", "audit-host", "learner", "orchestrator"):
            context.log(process).unlink(missing_ok=True)


def _end_access(session: Session, job: ClaimedJob) -> None:
    """End the job's keys and live policies."""
    delete_keys_of_job(session, job.name)
    for policy in policies.live_policies_of(session, job.account, job.id):
        policies.retire_policy(session, policy.name)


class _Claim:
    """One claim of one job."""

    def __init__(self, job: ClaimedJob, context: JobContext) -> None:
        self.job, self.context = job, context
        self.settings = context.settings
        self.spec = RftSpec.model_validate(job.spec)
        self.run_dir = self.settings.run_dir(job.id)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.keys = load_keys(self.settings)
        self.processes = RunProcesses(self.run_dir, self.spec.evaluator_version, self.start_host, context.start)
        self.progress = RunProgress(job, context, self.spec, self.run_dir, self.processes)
        self.steering = Steering(job, context, self.spec, self.run_dir, self.processes)
        self.auditor = (
            Auditor(
                context,
                job.name,
                self.run_dir,
                self.audit_socket(),
                self.start_audit_host,
                self.spec.max_concurrent_rollouts,
            )
            if self.spec.audit_evaluator and not self.spec.preflight_only
            else None
        )

    async def validate(self) -> None:
        """Everything that can be known to be wrong before training starts; then the inputs, unless they are there."""
        if (self.run_dir / "run.json").exists():
            return
        await self.progress.report("JOB_STATE_VALIDATING")
        if self.spec.rewound_from is not None:
            await self.fork(self.spec.rewound_from, self.spec.rewound_to or 0)
            return
        base = await asyncio.to_thread(base_model, self.settings, self.spec.base_model)
        objects, stored = (
            ObjectStore.open(self.settings),
            await dataset_rows.stored_rows(self.context, self.spec.dataset),
        )
        evaluated = (
            await dataset_rows.stored_rows(self.context, self.spec.evaluation_dataset)
            if self.spec.evaluation_dataset
            else None
        )
        self.processes.hosts[self.spec.evaluator_version] = await self.start_host(self.spec.evaluator_version)
        client = HostClient(self.steering.socket_of(self.spec.evaluator_version))
        train, held_out = (self.run_dir / "data" / f"{name}.jsonl" for name in ("train", "evaluation"))
        rows, held = await dataset_rows.bring(objects, stored[0], train, None if stored[1] else client), 0
        if evaluated is not None:
            held = await dataset_rows.bring(objects, evaluated[0], held_out, None if evaluated[1] else client)
        elif self.spec.eval_auto_carveout:
            held = await asyncio.to_thread(dataset_rows.carve_out, train, held_out, rows, self.spec.seed)
            rows -= held
        renderer = await asyncio.to_thread(Renderer.load, base.path, base.name, base.family)
        limit = min(self.spec.max_context_length or renderer.context_length, renderer.context_length)
        named = {train: self.spec.dataset, held_out: self.spec.evaluation_dataset or self.spec.dataset}
        for file, what in [*named.items()][: 2 if held else 1]:
            await asyncio.to_thread(dataset_rows.check_prompts, file, renderer, limit, what)
        rft_inputs.write_run(
            self.run_dir,
            self.spec,
            job=self.job.id,
            account=self.job.account.rsplit("/", 1)[-1],
            base=base,
            warm_start=await warm_start(self.context, self.spec.warm_start_from),
            train=train,
            rows=rows,
            held_out=held_out if held else None,
            gateway_url=self.settings.base_url,
            host_socket=self.steering.socket_of(self.spec.evaluator_version),
            threads=self.settings.torch_threads,
            preflight_rows=self.preflight_rows(),
        )

    async def fork(self, source: str, version: int) -> None:
        """Begin as another job was at a policy version, once that one has ended."""
        while not self.context.cancelled.is_set():
            state = await self.context.query(lambda session: job.state if (job := session.get(Job, source)) else None)
            if state is None or state in jobs.FINAL_STATES:
                break
            await asyncio.sleep(WATCH_SECONDS)
        else:
            return  # without a run.json nothing is started
        await asyncio.to_thread(
            fork_run,
            self.settings.run_dir(source.rsplit("/", 1)[-1]),
            self.run_dir,
            version,
            job=self.job.id,
            evaluator_version=str(self.spec.evaluator_version),
            host_socket=self.steering.socket_of(self.spec.evaluator_version),
            gateway_url=self.settings.base_url,
            epochs=self.spec.epochs,
        )

    async def train(self) -> Outcome:
        """Keep the processes up until the run is final or cancelled."""
        await self.key("run")
        seen, reported = None, 0.0
        while not self.context.cancelled.is_set() and self.processes.status().get("state") not in FINAL:
            await self.steering.steer()
            await self.processes.up()
            since = time.monotonic() - reported
            if since > REPORT_SECONDS:
                marks = [file_mark(f"{self.run_dir}/{name}") for name in REPORTED_FILES], self.processes.pids()
                if marks != seen or since > QUIET_REPORT_SECONDS:
                    await self.progress.report("JOB_STATE_RUNNING")
                    seen, reported = marks, time.monotonic()
            if self.auditor is not None:
                self.auditor.look()
            self.context.waits = self.processes.paused()
            await asyncio.sleep(PAUSED_WATCH_SECONDS if self.context.waits else WATCH_SECONDS)
        await self.processes.down()
        await self.progress.report()
        status = self.processes.status()
        if status.get("state") not in FINAL:
            await self.retire_policies()
            message = "Cancelled on request. Its checkpoints are kept until the job is deleted."
            return Outcome(jobs.CANCELLED, message, "CANCELLED")
        if status["state"] == "FAILED":
            await self.retire_policies()
            return Outcome(jobs.FAILED, status["message"], "FAILED_PRECONDITION")
        if self.auditor is not None:
            await self.auditor.finish()
            await self.progress.report()
        return await asyncio.to_thread(self.outcome, status)

    def outcome(self, status: dict[str, Any]) -> Outcome:
        """The end of a run that was trained to its end: its best adapter is kept, if any step was taken."""
        state = jobs.COMPLETED if status["state"] == "COMPLETED" else jobs.EARLY_STOPPED
        why = promotion.why_ended(status)
        best = status.get("best_version")
        if self.spec.preflight_only:
            found = status.get("preflight") or {}
            return Outcome(
                state, f"Preflight only, no model. {found.get('verdict', '')} {found.get('advice', '')}".rstrip()
            )
        if not best:
            return Outcome(state, f"{why} No optimizer step was taken, so there is no model.".lstrip())
        adapter = adapter_path(self.run_dir, best)
        promoted = {
            "name": self.spec.output_model,
            "base_model": RunConfig.read(self.run_dir).base_model.name,
            "adapter": promotion.keep_adapter(self.settings, adapter, self.spec.output_model),
            "sha256": json.loads((adapter / "canary.json").read_text())["sha256"],
            "details": {
                "version": best,
                "optimizerSteps": status["optimizer_steps"],
                "heldOutScore": status["best_score"],
            },
        }
        message = f"{why} {self.spec.output_model} serves policy version {best} of {status['optimizer_steps']}."
        return Outcome(state, message.lstrip(), data={"promote": promoted})

    async def start_host(self, version: int) -> EvaluatorHost:
        """Start the host of a version of the job's evaluator. Raises FailedPrecondition when that version is not built."""
        build_dir, entry_point = await self.steering.build_of(version)
        return await self._start(build_dir, entry_point, self.steering.socket_of(version), "evaluator-host")

    def audit_socket(self) -> Path:
        """Where the host of the second evaluator listens."""
        return self.settings.path("hosts", f"{self.job.id}.vaudit", "host.sock")

    async def start_audit_host(self) -> EvaluatorHost:
        """Start the host of the second evaluator. Raises FailedPrecondition when it cannot score answers as they are."""
        build_dir = Path(self.spec.audit_evaluator_dir)
        host = await self._start(build_dir, self.spec.audit_entry_point, self.audit_socket(), "audit-host")
        if "score" not in host.described.get("answers", []):
            raise FailedPrecondition(
                f"The evaluator {self.spec.audit_evaluator} was built with an SDK that cannot score given answers. "
                "Upload it again, so that it is built anew."
            )
        return host

    async def _start(self, build_dir: Path, entry_point: str, socket: Path, log: str) -> EvaluatorHost:
        secrets = await self.context.query(lambda session: secret_values(session, self.job.account, self.keys.master))
        host = await start_host(
            build_dir=build_dir,
            entry_point=entry_point,
            socket=socket,
            env=environment(
                build_dir,
                platform_url=self.settings.base_url,
                gateway_url=self.settings.gateway_url,
                api_key=await self.key("rollout"),
                secrets=secrets,
            ),
            settings=self.settings,
            log_path=self.context.log(log),
        )
        self.context.adopt(host.process)
        return host

    async def key(self, kind: str) -> str:
        """The job's `run` or `rollout` key; made at its first use, kept 0600 in the run directory while the job runs."""
        file = self.run_dir / f"{kind}.key"
        if not file.exists():
            scope: dict[str, Any] = {"kind": kind, "job": self.job.name}
            if kind == "rollout":
                scope["budget"] = await self.budget()
            _, plaintext = await self.context.transaction(
                lambda session: new_key(session, self.job.account, scope, f"{kind} key", None, self.keys.pepper)
            )
            temporary = file.with_suffix(".tmp")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as private:
                private.write(plaintext)
            temporary.rename(file)
        return file.read_text()

    async def budget(self) -> int:
        """Tokens that the agents of this job may spend."""
        if self.settings.rollout_key_budget_tokens is not None:
            return self.settings.rollout_key_budget_tokens
        base = await asyncio.to_thread(base_model, self.settings, self.spec.base_model)
        context = (await asyncio.to_thread(Renderer.load, base.path)).context_length
        limit = min(self.spec.max_context_length or context, context)
        return rft_inputs.token_budget(self.spec, limit, self.preflight_rows())

    def preflight_rows(self) -> int:
        """Rows that are rolled out before the first step."""
        asked = self.spec.preflight_rows
        if asked is None:
            asked = self.settings.preflight_rows
        return max(1, asked) if self.spec.preflight_only else asked

    async def retire_policies(self) -> None:
        """Have the engine unload what a failed or cancelled run left live; `settle` retires whatever is left."""
        live = await self.context.query(
            lambda session: [p.name for p in policies.live_policies_of(session, self.job.account, self.job.id)]
        )
        headers = {"Authorization": f"Bearer {self.keys.internal}"}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as client:
            for name in live:
                try:
                    url = f"{self.settings.base_url}/internal/policies"
                    async with client.delete(url, params={"name": name}) as answer:
                        answer.raise_for_status()
                except (aiohttp.ClientError, TimeoutError):
                    return
