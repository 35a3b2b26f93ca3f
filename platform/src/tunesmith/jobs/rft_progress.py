"""What an RFT job shows of its run while it is carried on: its progress, the rows in the database, the trackers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.ingest import Ingest
from tunesmith.jobs.rft_cost import RunCost
from tunesmith.jobs.rft_processes import RunProcesses, place_of
from tunesmith.jobs.rft_trackers import RunTrackers
from tunesmith.runs.fork import rewindable_versions
from tunesmith.schemas.rft_spec import RftSpec


class RunProgress:
    """The report of one claim of a job."""

    def __init__(
        self, job: ClaimedJob, context: JobContext, spec: RftSpec, run_dir: Path, processes: RunProcesses
    ) -> None:
        self._job, self._context, self._run_dir, self._processes = job, context, run_dir, processes
        self._ingest = Ingest(context.sessions, job.name, run_dir)
        self._trackers = RunTrackers(run_dir, job, context, spec)
        self._cost = RunCost(context.settings.data_dir, spec.base_model, job)
        self._reported: tuple[dict[str, Any], str | None] | None = None
        self._reached = place_of(job.progress.get("run") or {})
        """The furthest place that was reported."""

    async def report(self, state: str | None = None) -> None:
        """Take in what the run wrote, and write the job's progress; with `state`, that too."""
        status = self._processes.status()
        told = await asyncio.to_thread(self._take_in, status)
        await self._trackers.follow()
        before = {"percent": 0, "epoch": 0, "run": {}, **self._job.progress}  # what an earlier claim reported
        run = {"percent": status.get("percent", 0), "epoch": status.get("epoch", 0), "run": told} if status else {}
        progress = {**before, **run, "processes": self._processes.report()}
        if host := self._processes.hosts.get(self._processes.version_in_force()):
            progress["sandbox"] = host.protection.as_json()
        if versions := rewindable_versions(self._run_dir):
            progress["checkpoints"] = versions
        if (progress, state) != self._reported:
            place = place_of(status)
            await self._context.progress(progress, state=state, moved_on=place > self._reached)
            self._reported, self._reached = (progress, state), max(place, self._reached)

    async def close(self) -> None:
        """Take in what the run wrote last, and let the trackers send it."""
        await asyncio.to_thread(self._ingest.catch_up)
        await self._trackers.down()

    def _take_in(self, status: dict[str, Any]) -> dict[str, Any]:
        """Take the run's files into the database; what is then known of the run. Called in a thread."""
        self._ingest.catch_up()
        if not status:
            return {}
        return {**status, **self._cost.so_far(self._ingest.tokens()), **self._cost.expected(status.get("preflight"))}
