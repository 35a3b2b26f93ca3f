"""What a kind of job implements, and what it is given.

A handler is level-triggered: it looks at what is there (rows, folders), does what is missing, and may be run again at any point,
because a worker can die at any point. It ends in one of five ways:

| it | then |
|---|---|
| returns an `Outcome` | the job gets that final state (`settle` runs in the same transaction) |
| raises a TunesmithError below 500 | FAILED with the message, word for word |
| raises anything else | tried again later, at most `MAX_ATTEMPTS` times without moving on (`JobContext.progress`), then FAILED |
| is asked to cancel (`context.cancelled`) | it winds up and returns; what it returns counts, so COMPLETED may win the race |
| is stopped (`asyncio.CancelledError`) | the worker is going down or lost the lease: stop children, change nothing, let it pass |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from tunesmith import launch
from tunesmith.db import jobs
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.jobs.memory import Need
from tunesmith.settings import Settings

T = TypeVar("T")
MAX_ATTEMPTS = 5
"""How often a job is tried at one place when the fault is ours. A claim after a crash of the worker counts too."""


@dataclass(frozen=True)
class ClaimedJob:
    """A job as it was when it was claimed."""

    name: str
    account: str
    """Resource name, `accounts/{a}`."""
    kind: str
    spec: dict[str, Any]
    state: str
    progress: dict[str, Any]
    attempts: int
    """Claims since the job last moved on, this one included; a worker's orderly stop is not counted."""
    created: float
    started: float
    delete_requested: bool

    @classmethod
    def of(cls, row: Job) -> ClaimedJob:
        """A copy that outlives the session."""
        return cls(
            name=row.name,
            account=row.account,
            kind=row.kind,
            spec=dict(row.spec),
            state=row.state,
            progress=dict(row.progress),
            attempts=row.attempts,
            created=row.created,
            started=row.started or row.created,
            delete_requested=row.delete_requested,
        )

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: str
    """One of `db.jobs.FINAL_STATES`; or PAUSED: nobody holds it until `db.jobs.wake` (`settle` is not called)."""
    message: str = ""
    code: str = "OK"
    """gRPC code name that goes with the message."""
    data: dict[str, Any] = field(default_factory=dict)
    """For `settle`; not stored."""

    @property
    def status(self) -> dict[str, Any]:
        """The wire's status object."""
        return {"code": self.code, "message": self.message}


@dataclass(eq=False)
class JobContext:
    """What a running job may use. Children started through it are stopped when the job ends, however it ends."""

    settings: Settings
    sessions: sessionmaker[Session]
    job: ClaimedJob
    owner: str
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set within a second of a request to cancel or delete the job."""
    waits: bool = False
    """Set by a handler whose job stands still until a person lets it go on: meanwhile another job of its kind may begin."""
    attempts: int = 0
    """As in the job, and 1 from when it moved on."""
    _children: list[launch.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.attempts = self.job.attempts

    async def transaction(self, work: Callable[[Session], T]) -> T:
        """Run `work(session)` in a thread, in one transaction that is committed before this returns."""

        def call() -> T:
            with self.sessions.begin() as session:
                return work(session)

        return await asyncio.to_thread(call)

    async def query(self, work: Callable[[Session], T]) -> T:
        """Run `work(session)` in a thread on a snapshot, without a write lock; nothing it does is kept."""

        def call() -> T:
            with reading(self.sessions) as session:
                return work(session)

        return await asyncio.to_thread(call)

    async def progress(self, progress: dict[str, Any], *, state: str | None = None, moved_on: bool = False) -> None:
        """Replace the job's progress, and its (non-final) state when given. Does nothing once the lease is lost.

        `moved_on`: the job is further than any claim before left it; its attempts are counted anew.
        """
        how: dict[str, Any] = {"state": state, "owner": self.owner, "moved_on": moved_on}
        if moved_on:
            self.attempts = 1
        await self.transaction(lambda session: jobs.set_progress(session, self.job.name, progress, **how))

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log_path: Path | None = None,
    ) -> launch.Process:
        """Start a child of this job; its output goes to `logs/{job id}-{name}.log` unless told otherwise."""
        log = log_path or self.log(name.replace(" ", "-"))
        return self.adopt(launch.start(argv, name=name, env=env, cwd=cwd, log_path=log))

    def log(self, name: str) -> Path:
        """Where the output of a child of this job goes."""
        return self.settings.path("logs", f"{self.job.id}-{name}.log")

    def adopt(self, process: launch.Process) -> launch.Process:
        """Have a process that was started elsewhere (an evaluator host's) stopped with the job's own."""
        self._children.append(process)
        return process

    def resident(self) -> int:
        """Memory that the job's children and theirs hold now, in bytes."""
        return sum(child.resident() for child in self._children if child.running)

    async def stop_children(self, grace: float = 5.0) -> None:
        """Stop all children that still run, at the same time."""
        running = [child for child in self._children if child.running]
        await asyncio.gather(*(child.stop(grace) for child in running))


class Handler(Protocol):
    """One kind of job. Subclass it: `settle` and `discard` do nothing by default."""

    kind: str

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Do what is missing; see the module's docstring for the ways to end."""
        ...

    def need(self, spec: dict[str, Any], settings: Settings) -> Need | None:
        """What a job of this spec takes in memory; None: so little, or so unknown, that it may always begin. Reads small files only."""
        return None

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """Write what must change together with the job's final state. Called once per end, also for failures."""

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove what the job left outside its row, before the row itself is deleted. May be run again."""
