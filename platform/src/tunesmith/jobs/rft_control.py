"""From what a person asks of a running RFT job to `control.json`, which its orchestrator reads.

Another evaluator version takes over in this order: its host is started beside the one in force, control.json names it once it
answers, the orchestrator says at a chunk's beginning that it is in force, and then the old host is stopped. A version that cannot be
started leaves the old one in force; control.json says why, and the orchestrator records it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.evaluators import ACTIVE
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.errors import FailedPrecondition, TunesmithError
from tunesmith.evaluators.hosts import EvaluatorHost
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.rft_processes import RunProcesses
from tunesmith.runs.control import CONTROL_FILE, Asked, Control
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.rft_spec import RftSpec

LOOK_SECONDS = 1.0
"""How often the database is asked what a person wants."""


class Steering:
    """Hands on the control of one job. `steer` is called again and again; it does what is missing."""

    def __init__(
        self, job: ClaimedJob, context: JobContext, spec: RftSpec, run_dir: Path, processes: RunProcesses
    ) -> None:
        self._job, self._context, self._spec = job, context, spec
        self._run_dir, self._processes = run_dir, processes
        self._starting: tuple[int, asyncio.Task[EvaluatorHost]] | None = None
        self._next_look = 0.0
        self._refused: tuple[int, int, str] | None = None
        """(version, revision of the request, why): it is not tried again until somebody asks again."""

    async def steer(self) -> None:
        """Look at what is asked for, start and stop hosts, and write control.json when it would say something else."""
        if self._starting is None and time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        asked, newest = await self._context.query(self._look)
        last = Control.read(self._run_dir)
        if asked.revision == 0 and last == Control():
            return
        await self._finish_start(asked)
        in_force = self._processes.version_in_force()
        wanted = asked.evaluator_version or (newest if asked.auto_evaluator_version else None)
        wanted = wanted or self._spec.evaluator_version
        refused = self._refused is not None and self._refused[:2] == (wanted, asked.revision)
        if wanted not in self._processes.hosts and wanted != in_force and not refused and self._starting is None:
            self._starting = wanted, asyncio.create_task(self._processes.start_host(wanted))
        ready = wanted in self._processes.hosts or wanted == in_force
        named = wanted if ready else int(last.evaluator_version or self._spec.evaluator_version)
        if named not in self._processes.hosts:
            named = in_force  # its host died with an earlier worker, and it never came into force
        control = Control(
            revision=asked.revision,
            paused=asked.paused,
            steps=asked.steps,
            steps_revision=asked.steps_revision,
            learning_rate=asked.learning_rate,
            evaluator_version=str(named),
            hosts={
                str(version): self.socket_of(version) for version in {named, in_force} - {self._spec.evaluator_version}
            },
            message=self._refused[2] if refused and self._refused else "",
        )
        if control != last:
            write_atomic(self._run_dir / CONTROL_FILE, control.model_dump_json())
        await self._processes.stop_hosts_but({named, in_force})

    async def stop(self) -> None:
        """Give up a host that is being started."""
        if self._starting is not None:
            self._starting[1].cancel()
            with contextlib.suppress(asyncio.CancelledError, TunesmithError):
                await self._starting[1]
            self._starting = None

    def socket_of(self, version: int) -> Path:
        """Where the host of a version listens, in a folder of its own: all that this version of the evaluator may write."""
        folder = self._job.id if version == self._spec.evaluator_version else f"{self._job.id}.v{version}"
        return self._context.settings.path("hosts", folder, "host.sock")

    async def build_of(self, version: int) -> tuple[Path, str]:
        """(folder with src/ and venv/, entry point) of a version. Raises FailedPrecondition when it is not built."""
        if version == self._spec.evaluator_version:
            return Path(self._spec.evaluator_dir), self._spec.entry_point
        name = f"{self._spec.evaluator}/versions/{version}"
        row = await self._context.query(lambda session: session.get(EvaluatorVersion, name))
        if row is None or row.state != ACTIVE or not row.build_dir:
            state = f"is {row.state}" if row is not None else "is not there any more"
            raise FailedPrecondition(f"{name} {state}.")
        return Path(row.build_dir), row.entry_point or self._spec.entry_point

    async def _finish_start(self, asked: Asked) -> None:
        """Take over a host that was being started, or remember why there is none."""
        if self._starting is None or not self._starting[1].done():
            return
        (version, task), self._starting = self._starting, None
        try:
            self._processes.hosts[version] = task.result()
        except TunesmithError as error:
            stays = self._processes.version_in_force()
            reason = (
                f"Version {version} of the evaluator cannot be started, version {stays} stays in force: {error.message}"
            )
            self._refused = version, asked.revision, reason

    def _look(self, session: Session) -> tuple[Asked, int | None]:
        """What is asked for, and the newest version of the evaluator that is built."""
        asked = Asked.model_validate(session.scalar(select(Job.control).where(Job.name == self._job.name)) or {})
        if not asked.auto_evaluator_version:
            return asked, None
        active = select(EvaluatorVersion.version).where(
            EvaluatorVersion.evaluator == self._spec.evaluator, EvaluatorVersion.state == ACTIVE
        )
        return asked, session.scalar(active.order_by(EvaluatorVersion.version.desc()).limit(1))
