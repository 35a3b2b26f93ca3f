"""The handler of evaluation jobs: rows, answered by a model or as they are, scored by an evaluator in its host.

Level-triggered, like the other handlers: it adapts the rows unless they are adapted, asks for the rows that have no result, and
writes the dataset of results unless it is there. Running it twice, or again after a crash at any instant, does no harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db import evaluation_jobs, jobs, throughputs
from tunesmith.db.api_keys import delete_keys_of_job, new_key
from tunesmith.db.datasets import fill_dataset
from tunesmith.db.secrets import secret_values
from tunesmith.errors import FailedPrecondition, Unavailable
from tunesmith.evaluators.client import HostClient
from tunesmith.evaluators.hosts import EvaluatorHost, environment, start_host
from tunesmith.jobs.dataset_rows import bring, stored_rows
from tunesmith.jobs.evaluation_gateway import GatewayRecords
from tunesmith.jobs.evaluation_rows import EvaluationRows
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.rft_inputs import CALLS_PER_ROLLOUT
from tunesmith.schemas.evaluation_jobs import EvaluationSpec
from tunesmith.schemas.names import short_id
from tunesmith.storage.keys import load_keys
from tunesmith.storage.objects import ObjectStore

HOST_LOSSES = 3
"""A host that went away this often in a row without a result between is given up."""
REPORT_SECONDS = 0.5
UNKNOWN_CONTEXT = 131_072
"""Tokens of context taken for a model that is served elsewhere, when the budget of the job's key is made."""


class EvaluationHandler(Handler):
    """Handler of `evaluation`."""

    kind = evaluation_jobs.KIND

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Score what is left, then write the results; or wind up when asked to."""
        claim = _Claim(job, context)
        work = asyncio.create_task(claim.evaluate())
        asked = asyncio.create_task(context.cancelled.wait())
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return Outcome(jobs.CANCELLED, "Cancelled on request.", "CANCELLED")
        finally:
            asked.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await claim.close()

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """With the final state: what was seen of the model's speed, and the end of the job's key."""
        seen = outcome.data.get("generate")
        if seen:
            throughputs.record(session, seen["base_model"], "generate", seen["tokens_per_second"], job.name)
        delete_keys_of_job(session, job.name)

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove the job's folder, and the dataset that it announced if it never came to be. A written one stays."""

        def forget(session: Session) -> None:
            delete_keys_of_job(session, job.name)
            evaluation_jobs.forget_output(session, job.name, job.spec["output_dataset"])

        await context.transaction(forget)
        for folder in (context.settings.path("evaluations", job.id), _host_folder(job, context)):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        _log_path(job, context).unlink(missing_ok=True)


def _host_folder(job: ClaimedJob, context: JobContext) -> Path:
    """Where the host listens. Short whatever the id: a socket's path is limited; no RFT job's id has a dot."""
    return context.settings.path("hosts", f"evaluation.{hashlib.sha256(job.id.encode()).hexdigest()[:12]}")


def _log_path(job: ClaimedJob, context: JobContext) -> Path:
    return context.settings.path("logs", f"evaluation.{job.id}-evaluator-host.log")


class _Claim:
    """One claim of one job."""

    def __init__(self, job: ClaimedJob, context: JobContext) -> None:
        self.job, self.context, self.settings = job, context, context.settings
        self.spec = EvaluationSpec.model_validate(job.spec)
        self.folder = context.settings.path("evaluations", job.id)
        self.socket = _host_folder(job, context) / "host.sock"
        self.keys = load_keys(context.settings)
        self.gateway = GatewayRecords(context.settings.base_url, self.keys.internal)
        self.host: EvaluatorHost | None = None
        self.sandbox: dict[str, Any] | None = job.progress.get("sandbox")
        """What confines the evaluator, from when its host has started."""
        self._record: EvaluationRows | None = None
        self._reported = 0.0

    @property
    def record(self) -> EvaluationRows:
        """The job's folder, open from the first use on."""
        if self._record is None:
            self._record = EvaluationRows(self.folder)
        return self._record

    async def close(self) -> None:
        """Stop the host, let go of the folder."""
        if self.host is not None:
            await self.host.stop()
        if self._record is not None:
            self._record.close()

    async def evaluate(self) -> Outcome:
        """Score every row and write the results."""
        if not self.record.count:
            await self.start_host()
            key, adapted = await stored_rows(self.context, self.spec.dataset)
            objects, host = ObjectStore.open(self.settings), None if adapted else HostClient(self.socket)
            await bring(objects, key, self.record.rows_path, host)
            await asyncio.to_thread(self.record.look)
        fruitless = 0
        while missing := self.record.missing():
            scored = self.record.scored
            try:
                await self.start_host()
                await self.ask(missing, self.record.next_attempt())
            except Unavailable:
                fruitless = fruitless + 1 if self.record.scored == scored else 0
                if fruitless >= HOST_LOSSES:
                    raise
                await asyncio.sleep(0.5)
        return await self.finish()

    async def ask(self, missing: list[int], attempt: int) -> None:
        """Have the host score these rows once. Raises Unavailable when it goes away before it is done."""
        params = {"model": self.spec.model, "temperature": self.spec.temperature, "max_tokens": self.spec.max_tokens}
        attempts = (
            {
                "row_index": index,
                "k": 0,
                "attempt": attempt,
                "rollout_id": f"{self.job.id}-row{index}-a{attempt}",
                "row": row,
            }
            for index, row in self.record.rows(missing)
        )
        asked = time.monotonic()
        async for event in HostClient(self.socket).run(
            attempts,
            invocation_id=self.job.id,
            completion_params={name: value for name, value in params.items() if value is not None},
            max_concurrent_rollouts=self.spec.max_concurrent_rollouts,
            answers="replace" if self.spec.model else "score",
        ):
            self.record.append(await self.read(event, time.monotonic() - asked))
            if time.monotonic() - self._reported > REPORT_SECONDS:
                self._reported = time.monotonic()
                await self.report()

    async def read(self, event: dict[str, Any], elapsed: float) -> dict[str, Any]:
        """The record of a finished row. A score that is none is invalid with the reason, never 0."""
        score, valid, reason, row = event["score"], event["is_score_valid"], event["reason"], event["row"]
        if valid and not (isinstance(score, int | float) and 0.0 <= score <= 1.0):
            valid, reason = False, f"score {score!r} is not a number in 0..1"
        rolled_out = self.spec.model is not None
        tokens = await self.gateway.tokens(event["rollout_id"], row) if rolled_out else (0, 0)
        return {
            "row_index": event["row_index"],
            "attempt": event["attempt"],
            "rollout_id": event["rollout_id"],
            "score": score if valid else None,
            "is_score_valid": valid,
            "reason": reason or "",
            "platform_failure": not valid and rolled_out and await self.gateway.failed(row, elapsed),
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "seconds": round(elapsed, 3),
            "row": row,
        }

    async def finish(self) -> Outcome:
        """Write the dataset of results, unless no row has a score."""
        record = self.record
        await self.report(final=True)
        metrics, reasons = record.metrics(), record.reasons()
        if metrics["score"] is None:
            message = f"None of the {metrics['rows']} rows could be scored: {reasons.rstrip('.')}."
            return Outcome(jobs.FAILED, message, "FAILED_PRECONDITION")
        await self.write_results()
        data: dict[str, Any] = {}
        if self.spec.base_model and metrics["output_tokens"] and metrics["seconds"]:
            rate = metrics["output_tokens"] / metrics["seconds"]
            data["generate"] = {"base_model": self.spec.base_model, "tokens_per_second": rate}
        invalid = f" {metrics['invalid']} of {metrics['rows']} rows could not be scored: {reasons}." if reasons else ""
        message = f"The mean score is {metrics['score']:.4f}; {self.spec.output_dataset} has every row's.{invalid}"
        return Outcome(jobs.COMPLETED, message, data=data)

    async def write_results(self) -> None:
        """Store the results and make the output dataset READY. Writing the same again is fine."""
        folder = f"datasets/{self.job.account.rsplit('/', 1)[-1]}/{short_id(self.spec.output_dataset)}"

        def store() -> tuple[str, int]:
            with tempfile.NamedTemporaryFile(dir=self.folder) as scratch:
                self.record.write_results(scratch)
                scratch.flush()
                with open(scratch.name, "rb") as written:
                    digest = hashlib.file_digest(written, "sha256").hexdigest()[:32]
                key = f"{folder}/{digest}.jsonl"
                return key, ObjectStore.open(self.settings).put_file(key, Path(scratch.name))

        key, size = await asyncio.to_thread(store)
        count = self.record.count
        await self.context.transaction(
            lambda session: fill_dataset(session, self.spec.output_dataset, key, count, size)
        )

    async def report(self, *, final: bool = False) -> None:
        """Write the job's progress."""
        scored, rows = self.record.scored, self.record.count
        percent = 100 if final else min(99, 100 * scored // max(1, rows))
        progress: dict[str, Any] = {"percent": percent, "scored": scored, "rows": rows}
        if self.sandbox is not None:
            progress["sandbox"] = self.sandbox
        if final:
            progress["metrics"] = self.record.metrics()
        await self.context.progress(progress)

    async def start_host(self) -> None:
        """Have the evaluator host up, of the version that the job was created with."""
        if self.host is not None and self.host.process.running:
            return
        secrets = await self.context.query(lambda session: secret_values(session, self.job.account, self.keys.master))
        build_dir = Path(self.spec.evaluator_dir)
        self.host = await start_host(
            build_dir=build_dir,
            entry_point=self.spec.entry_point,
            socket=self.socket,
            env=environment(
                build_dir,
                platform_url=self.settings.base_url,
                gateway_url=self.settings.gateway_url,
                api_key=await self.key(),
                secrets=secrets,
            ),
            settings=self.settings,
            log_path=_log_path(self.job, self.context),
        )
        self.context.adopt(self.host.process)
        self.sandbox = self.host.protection.as_json()
        if not {"score", "replace"} <= set(self.host.described.get("answers", [])):
            raise FailedPrecondition(
                f"The evaluator {self.spec.evaluator} was built with an SDK that cannot run evaluation jobs yet. "
                "Upload it again, so that it is built anew."
            )

    async def key(self) -> str:
        """The job's rollout key; made at its first use, kept 0600 in the job's folder while it runs."""
        file = self.folder / "rollout.key"
        if not file.exists():
            scope = {"kind": "rollout", "job": self.job.name, "budget": self.budget()}
            _, plaintext = await self.context.transaction(
                lambda session: new_key(session, self.job.account, scope, "rollout key", None, self.keys.pepper)
            )
            temporary = file.with_suffix(".tmp")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as private:
                private.write(plaintext)
            temporary.rename(file)
        return file.read_text()

    def budget(self) -> int:
        """Tokens that the evaluator and its agents may spend."""
        context = self.spec.context_length or UNKNOWN_CONTEXT
        return self.settings.rollout_key_budget_tokens or CALLS_PER_ROLLOUT * context * self.spec.example_count
