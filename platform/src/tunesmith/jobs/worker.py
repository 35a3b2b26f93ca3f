"""The worker: claims jobs up to a limit per kind, keeps their leases alive, and brings every one to its end.

Each beat (half a second), when anybody committed, reads the held jobs for requests to cancel and claims new ones; leases are renewed three
times per lease.
SIGTERM (`stop`) ends handlers and their children and gives the leases back, so that the next worker goes on at once.
After kill -9 the leases run out, or the next worker on this machine sees that their owner is dead; the same claim takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db import jobs
from tunesmith.db.session import reading
from tunesmith.disk import LEAST_FREE, advice, free_bytes, trouble
from tunesmith.errors import TunesmithError
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.handler import MAX_ATTEMPTS, ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.identity import is_dead, own_name
from tunesmith.jobs.lookout import Lookout
from tunesmith.jobs.retention import collect
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

BEAT_SECONDS = 0.5
COLLECTION_SECONDS = 86_400.0
"""Between two collections of what is past its retention."""
NO_ROOM_SECONDS = 10.0
"""Until a job that met a full disk is looked at again."""
CLOCK_STEP_SECONDS = 2.0
"""The time of day moved against the monotonic clock by more than this: somebody set it."""
CLOCK_GRACE_SECONDS = 5.0
"""After that nothing is claimed so long: leases lie in the past or the far future until their holders have renewed them."""
CANCEL_GRACE_SECONDS = 60.0
"""A handler that has not returned this long after a request to cancel is stopped, and its job is CANCELLED."""


@dataclass(eq=False)
class _Held:
    """A job that this worker holds."""

    job: ClaimedJob
    handler: Handler
    context: JobContext
    task: asyncio.Task[None]
    renewed: float
    due: bool = False
    """Its lease has to be renewed at once."""
    lost: bool = False
    ended: bool = False


class Worker:
    """Runs jobs until told to stop. `limits` pairs each handler with how many of its jobs run at a time."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], limits: Sequence[tuple[Handler, int]]
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.owner = own_name()
        self._handlers = {handler.kind: handler for handler, _ in limits}
        self._limits = {handler.kind: limit for handler, limit in limits}
        self._held: dict[str, _Held] = {}
        self._admission = Admission(settings)
        self._collecting: asyncio.Task[None] | None = None
        self._clock = time.time() - time.monotonic()
        self._claims_from = 0.0
        """By the monotonic clock."""
        self._lookout = Lookout(sessions, self.owner, settings.data_dir)
        self._full = False
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then give everything back."""
        log.info("worker %s takes %s", self.owner, self._limits)
        looked = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - looked > self.settings.lease_seconds / 3:
                    looked = time.monotonic()
                    await self._bury_the_dead()
                    self._collect_if_due()
                self._watch_clock()
                claims = time.monotonic() >= self._claims_from
                look = await self._lookout.look(list(self._held), self._free_kinds(), claims=claims)
                if look is not None:
                    self._heed(look.held)
                await self._renew()
                if look is not None and not self._note_full(look.free < LEAST_FREE) and claims:
                    await self._claim(look.claimable)
            except (OperationalError, sqlite3.OperationalError) as error:
                if not self._is_full(error):  # then nobody else can claim either, and the leases stay ours
                    log.warning("the database does not answer; trying again: %s", error)
                    self._drop_stale()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), BEAT_SECONDS)
        await self._give_back()
        self._lookout.close()

    def _watch_clock(self) -> None:
        """Leases are kept by the time of day, for workers elsewhere. When somebody sets it, ours are renewed before anything is claimed."""
        clock = time.time() - time.monotonic()
        if abs(clock - self._clock) > CLOCK_STEP_SECONDS:
            log.warning("the clock was set by %+.0f s; renewing all leases", clock - self._clock)
            self._claims_from = time.monotonic() + CLOCK_GRACE_SECONDS
            for held in self._held.values():
                held.due = True
        self._clock = clock

    def _is_full(self, error: Exception) -> bool:
        return self._note_full(trouble(error, self.settings.data_dir) is not None)

    def _note_full(self, full: bool) -> bool:
        if full != self._full:
            self._full = full
            log.warning(
                "%s", advice("no space left", self.settings.data_dir) if full else "There is room on the disk again."
            )
        return full

    async def _bury_the_dead(self) -> None:
        owners = await self._read(jobs.lease_owners)
        for owner in owners:
            if owner != self.owner and is_dead(owner):
                names = await self._write(lambda session, owner=owner: jobs.expire_leases(session, owner))
                log.warning("worker %s died; its jobs go back to the queue: %s", owner, ", ".join(names))

    def _collect_if_due(self) -> None:
        """Once a day, where `retention_days` is set; the stamp of the last one is a file, so that restarts do not repeat it."""
        days = self.settings.retention_days
        if days is None or (self._collecting is not None and not self._collecting.done()):
            return
        stamp = self.settings.path("collected.json")
        if stamp.exists() and time.time() - stamp.stat().st_mtime < COLLECTION_SECONDS:
            return
        self._collecting = asyncio.create_task(self._collect(days, stamp))

    async def _collect(self, days: float, stamp: Path) -> None:
        try:
            done = await asyncio.to_thread(
                collect, self.settings, self.sessions, older_than=days * 86_400, by=f"retention_days = {days:g}"
            )
        except (OSError, DBAPIError, sqlite3.Error) as error:
            log.warning("what is past its retention could not be removed; trying again tomorrow: %s", error)
            await asyncio.to_thread(write_atomic, stamp, json.dumps({"error": str(error)}))
            return
        log.info("removed %d things past their retention, %d bytes", len(done.leftovers), done.total_bytes)
        await asyncio.to_thread(write_atomic, stamp, json.dumps(done.as_json()))

    def _heed(self, found: dict[str, tuple[bool, bool]]) -> None:
        for name, (ours, asked_to_end) in found.items():
            held = self._held.get(name)
            if held is None or held.ended or held.task.done():
                continue
            if not ours:
                self._lose(held)
            elif asked_to_end:
                held.context.cancelled.set()

    async def _renew(self) -> None:
        lease = self.settings.lease_seconds
        due = [held for held in self._held.values() if held.due or time.monotonic() - held.renewed > lease / 3]
        for held in due:
            name = held.job.name
            row = await self._write(lambda session, name=name: jobs.renew(session, name, self.owner, lease))
            if row is not None:
                held.renewed, held.due = time.monotonic(), False

    def _drop_stale(self) -> None:
        for held in self._held.values():
            if time.monotonic() - held.renewed > self.settings.lease_seconds:
                self._lose(held)

    def _lose(self, held: _Held) -> None:
        if not held.lost and not held.ended:
            log.warning("the lease of %s is lost; stopping work on it", held.job.name)
            held.lost = True
            held.task.cancel()

    def _running(self) -> Counter[str]:
        return Counter(held.job.kind for held in self._held.values() if not held.context.waits)

    def _free_kinds(self) -> list[str]:
        """Kinds of which another job may begin."""
        running = self._running()
        return [kind for kind, limit in self._limits.items() if running[kind] < limit]

    async def _claim(self, claimable: set[str]) -> None:
        running = self._running()
        for kind, limit in self._limits.items():
            while kind in claimable and running[kind] < limit and not self._stopping:
                job = await self._claim_one(kind)
                if job is None:
                    break
                self._begin(job)
                running[kind] += 1

    async def _claim_one(self, kind: str) -> ClaimedJob | None:
        """The next job of a kind, or None when there is none, or it has to wait: nobody overtakes it then, so that it gets its turn."""

        def look(session: Session) -> tuple[str, dict[str, Any] | None] | None:
            job = jobs.next_job(session, [kind])
            if job is None:
                return None
            fresh = job.state == jobs.PENDING and not job.delete_requested
            return job.name, dict(job.spec) if fresh else None

        found = await self._read(look)  # looking takes no write lock, claiming does
        if found is None:
            return None
        name, spec = found
        if name in self._held:
            return None  # our own: the clock was set, and its lease is about to be renewed
        never = await self._may_begin(kind, name, spec) if spec is not None else ""
        if never is None:
            return None

        def claim(session: Session) -> ClaimedJob | None:
            row = jobs.claim(session, self.owner, [kind], self.settings.lease_seconds, name=name)
            return ClaimedJob.of(row) if row is not None else None

        job = await self._write(claim)
        if job is not None and never:
            await self._finish(job, self._handlers[kind], Outcome(jobs.FAILED, never, "RESOURCE_EXHAUSTED"))
            return await self._claim_one(kind)
        return job

    async def _may_begin(self, kind: str, name: str, spec: dict[str, Any]) -> str | None:
        """Empty when there is room for a job; why there never will be; None when it has to wait, which its row then says."""
        need = await asyncio.to_thread(self._handlers[kind].need, spec, self.settings)
        resident = {each: held.context.resident() if need else 0 for each, held in self._held.items()}
        never, later = self._admission.judge(name, need, resident)
        if later:
            if await self._write(lambda session: jobs.note_waiting(session, name, later)):
                log.info("%s: %s", name, later)
            return None
        return never

    def _begin(self, job: ClaimedJob) -> None:
        log.info("%s: claimed, attempt %d", job.name, job.attempts)
        context = JobContext(self.settings, self.sessions, job, self.owner)
        handler = self._handlers[job.kind]
        task = asyncio.create_task(self._work(job, handler, context), name=job.name)
        self._held[job.name] = _Held(job, handler, context, task, renewed=time.monotonic())

    async def _work(self, job: ClaimedJob, handler: Handler, context: JobContext) -> None:
        try:
            if job.delete_requested:
                await self._delete(job, handler, context)
            else:
                await self._finish(job, handler, await self._outcome(job, handler, context))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must end in the job's status, not in the worker
            await self._failed(job, handler, context, error)
        finally:
            if held := self._held.get(job.name):
                held.ended = True  # whoever sees its lease gone now must not stop the stopping of its children
            try:
                await context.stop_children()
            finally:
                self._held.pop(job.name, None)

    async def _outcome(self, job: ClaimedJob, handler: Handler, context: JobContext) -> Outcome:
        running = asyncio.create_task(handler.run(job, context))
        asked = asyncio.create_task(context.cancelled.wait())
        try:
            await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait({running}, timeout=CANCEL_GRACE_SECONDS)
            if running.done():
                return running.result()
            log.warning("%s: did not wind up within %.0f s; stopping it", job.name, CANCEL_GRACE_SECONDS)
            return Outcome(jobs.CANCELLED, "Cancelled; it did not wind up in time and was stopped.", "CANCELLED")
        finally:
            asked.cancel()
            if not running.done():
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    async def _delete(self, job: ClaimedJob, handler: Handler, context: JobContext) -> None:
        await handler.discard(job, context)
        await self._write(lambda session: jobs.remove(session, job.name, self.owner))
        log.info("%s: deleted", job.name)

    async def _finish(self, job: ClaimedJob, handler: Handler, outcome: Outcome) -> None:
        def end(session: Session) -> bool:
            if outcome.state == jobs.PAUSED:
                return jobs.pause(session, job.name, self.owner)
            if not jobs.finish(session, job.name, outcome.state, outcome.status, owner=self.owner):
                return False
            handler.settle(session, job, outcome)
            return True

        ended = await self._write_in_the_end(end)
        log.info(
            "%s: %s%s %s", job.name, outcome.state, "" if ended else " (not ours any more)", outcome.status["message"]
        )

    async def _failed(self, job: ClaimedJob, handler: Handler, context: JobContext, error: Exception) -> None:
        if isinstance(error, TunesmithError) and error.status < 500 and not job.delete_requested:
            await self._finish(job, handler, Outcome(jobs.FAILED, error.message, error.code))
            return
        full = trouble(error, self.settings.data_dir)
        if full and await asyncio.to_thread(free_bytes, self.settings.data_dir) < LEAST_FREE:
            log.warning("%s: %s", job.name, full.message)
            status = {"code": full.code, "message": full.message}
            again = {"delay": NO_ROOM_SECONDS, "status": status}  # not counted: it is nobody's fault here, and passes
            await self._write_in_the_end(lambda session: jobs.release(session, job.name, self.owner, **again))
            return
        message = _tell(
            job, full or error
        )  # with room again: it may be the job itself that does not fit, so it is counted
        if context.attempts < MAX_ATTEMPTS or job.delete_requested:
            delay = min(60.0, 2.0**context.attempts)
            status = {
                "code": "UNAVAILABLE",
                "message": f"{message} Attempt {context.attempts} failed; the next is in {delay:.0f} s.",
            }
            again = {"delay": delay, "counted": True, "status": status}
            await self._write_in_the_end(lambda session: jobs.release(session, job.name, self.owner, **again))
        else:
            code = error.code if isinstance(error, TunesmithError) else "INTERNAL"
            await self._finish(job, handler, Outcome(jobs.FAILED, message, code))

    async def _give_back(self) -> None:
        self._stopping = True
        held = list(self._held.values())
        for each in held:
            if not each.ended:  # its last step is to stop its children
                each.task.cancel()
        await asyncio.gather(*(each.task for each in held), return_exceptions=True)
        for each in held:
            name = each.job.name
            try:
                await self._write(lambda session, name=name: jobs.release(session, name, self.owner))
            except OperationalError as error:  # the next worker sees that we are gone
                log.warning("%s could not be given back: %s", name, error.orig)
        log.info("stopped; %d jobs given back", len(held))

    async def _write_in_the_end(self, work: Callable[[Session], T]) -> T:
        """As `_write`, and again until it succeeds: how a job ended must not be lost to a full disk. Stopped when the lease is lost."""
        while True:
            try:
                return await self._write(work)
            except OperationalError as error:
                if not self._is_full(error):
                    log.warning("the database cannot be written; trying again: %s", error.orig)
                await asyncio.sleep(1.0)

    async def _read(self, work: Callable[[Session], T]) -> T:
        def call() -> T:
            with reading(self.sessions) as session:
                return work(session)

        return await asyncio.to_thread(call)

    async def _write(self, work: Callable[[Session], T]) -> T:
        def call() -> T:
            with self.sessions.begin() as session:
                return work(session)

        return await asyncio.to_thread(call)


def _tell(job: ClaimedJob, error: Exception) -> str:
    """What the user reads: our own errors word for word, others as a number under which the log has the whole story."""
    if isinstance(error, TunesmithError):
        log.warning("%s: %s", job.name, error)
        return error.message
    number = uuid.uuid4().hex[:8]
    log.error("%s: internal error %s", job.name, number, exc_info=error)
    return f"internal error {number}: something in the platform failed; its log (logs/worker.log) has the details under this number."
