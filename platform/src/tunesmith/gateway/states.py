"""Where each rollout stands: its status, derived from posted log lines, and whether it still takes calls.

The latest line with a status wins. A model call after a terminal error puts a rollout back to running, so that a retry under the same
id is not failed by its own past; this too is a line, written by the gateway, so that a restart derives the same status from the same
lines. A job's key sees what its own keys and its account's keys posted; an account's key sees everything of the account.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tunesmith.db.rollout_logs import ROLLOUT_TAG, JobLines, LogLine, LogStore
from tunesmith.errors import ResourceExhausted, TunesmithError
from tunesmith.gateway import clock

RUNNING = 101
CODES = frozenset({*range(17), 100, 101, 102, 103})
"""Status codes of Eval Protocol: those of google.rpc.Code, and 100 FINISHED, 101 RUNNING, 102 SCORE_INVALID, 103 RESPONSE_QUALITY_ERROR."""
NO_ERROR = frozenset({0, 100, RUNNING, 102})
MOST_LINES = 2000
"""Lines that are kept of one rollout and job."""
MOST_BYTES = 16 * 2**20
"""Bytes of posted lines that are kept of one rollout and job."""
STATUS_LINES = 200
"""So many lines with a status are taken beyond those bounds: chatter must not keep a rollout from ending."""
KEPT_STATES = 4096
"""Rollouts in memory; older ones are read from the store."""


class RolloutClosed(TunesmithError):
    """The rollout takes no more calls: what it sampled has been handed out."""

    status, code, reason = 409, "FAILED_PRECONDITION", "rollout_closed"


@dataclass
class State:
    """One rollout id of one account. Lines and closings by job; None as job is the account."""

    lines: dict[str | None, JobLines]
    closed: dict[str | None, float]
    """Since when, in Unix seconds."""
    dropped: int = 0
    """Lines refused by the bounds since it came into memory."""
    pinned: int = 0
    """Users that wait for something while they hold it."""
    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def last(self, job: str | None) -> LogLine | None:
        """The latest line with a status that a key of `job` sees."""
        seen = [
            lines.last for owner, lines in self.lines.items() if lines.last and (job is None or owner in (None, job))
        ]
        return max(seen, key=lambda line: line.id, default=None)

    def is_closed(self, job: str | None) -> bool:
        """Whether calls of a job (None: of the account itself) are refused."""
        return None in self.closed or job in self.closed

    def closed_at(self, job: str | None) -> float | None:
        """Since when they are; None while they are not."""
        return min((at for owner, at in self.closed.items() if owner in (None, job)), default=None)

    def take(self, line: LogLine) -> None:
        """Count a committed line, and wake who waits for a status."""
        lines = self.lines.setdefault(line.job, JobLines())
        lines.count += 1
        lines.size += line.size
        if line.status is not None and (lines.last is None or line.id > lines.last.id):
            lines.last = line
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def has_room(self, line: LogLine) -> bool:
        """Whether a line may be kept. Raises ResourceExhausted where one with a status may not."""
        lines = self.lines.get(line.job, JobLines())
        if lines.count < MOST_LINES and lines.size < MOST_BYTES:
            return True
        if line.status is not None and lines.count >= MOST_LINES + STATUS_LINES:
            raise ResourceExhausted(
                f"This rollout posted {lines.count} log lines, more than are kept; not even its status is taken any more."
            )
        return line.status is not None


def is_terminal(line: LogLine | None) -> bool:
    """Whether a rollout with this latest status has ended."""
    return line is not None and line.status is not None and line.status["code"] != RUNNING


def is_error(line: LogLine | None) -> bool:
    """Whether a rollout with this latest status has failed."""
    return line is not None and line.status is not None and line.status["code"] not in NO_ERROR


class RolloutStates:
    """States by (account, rollout id), the least recently used ones dropped from memory."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._states: OrderedDict[tuple[str, str], asyncio.Task[State]] = OrderedDict()

    async def status(self, account: str, job: str | None, rollout_id: str, wait: float = 0.0) -> LogLine | None:
        """The latest line with a status; waits up to `wait` seconds for a terminal one."""
        async with self._held(account, rollout_id) as state:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + wait
            while not is_terminal(state.last(job)) and loop.time() < deadline:
                woken: asyncio.Future[None] = loop.create_future()
                state.waiters.add(woken)
                try:
                    await asyncio.wait([woken], timeout=deadline - loop.time())
                finally:
                    state.waiters.discard(woken)
            return state.last(job)

    async def dropped(self, account: str, rollout_id: str) -> int:
        """Lines that the bounds refused since this gateway knows the rollout."""
        async with self._held(account, rollout_id) as state:
            return state.dropped

    async def post(self, line: LogLine) -> int:
        """Commit a line and let it count; returns for how many of its rollouts it was dropped.

        Raises ResourceExhausted for statuses without end, Unavailable when it cannot be recorded.
        """
        kept: list[str] = []
        for rollout_id in dict.fromkeys(line.rollout_ids):
            async with self._held(line.account, rollout_id) as state:
                if state.has_room(line):
                    kept.append(rollout_id)
                else:
                    state.dropped += 1
        gone = {f"{ROLLOUT_TAG}{rollout_id}" for rollout_id in line.rollout_ids if rollout_id not in kept}
        if kept:
            line.tags[:] = [tag for tag in line.tags if tag not in gone]
            await self._commit(line)
        return len(gone)

    async def admit(self, account: str, job: str | None, rollout_id: str) -> None:
        """Let a model call in. Raises RolloutClosed; a rollout that had failed is running again."""
        known = self._loaded(account, rollout_id)
        if known is not None and not is_error(known.last(job)):  # most calls: nothing to wait for
            _refuse_closed(known, job, rollout_id)
            return
        async with self._held(account, rollout_id) as state:
            _refuse_closed(state, job, rollout_id)
            if not is_error(state.last(job)):
                return
            async with state.changing:  # of several calls at once, one reopens
                last = state.last(job)
                if is_error(last) and last is not None and last.status is not None:
                    await self._commit(self._reopening(account, job, rollout_id, last.status["code"]))
            _refuse_closed(state, job, rollout_id)

    async def close(self, account: str, job: str | None, rollout_id: str, *, always: bool) -> float | None:
        """Take no more calls of a rollout, for one job or for the whole account (None).

        Without `always` only where its status is terminal without an error. From the first moment of the commit calls are refused.
        Returns since when the rollout is closed (Unix seconds), None where it is not. What a call that was in flight samples after
        that is nobody's: records of calls that ended before it are committed when this returns, in the one writer's order.
        """
        async with (
            self._held(account, rollout_id) as state,
            state.changing,
        ):  # of several at once, all wait for the commit
            last = state.last(job)
            if state.is_closed(job) or not (always or (is_terminal(last) and not is_error(last))):
                return state.closed_at(job)
            state.closed[job] = now = clock.now()
            try:
                await self._store.close_rollout(account, job, rollout_id, now)
            except TunesmithError:
                del state.closed[job]
                raise
            return now

    def _reopening(self, account: str, job: str | None, rollout_id: str, code: int) -> LogLine:
        text = f"A model call came in after the rollout had failed with status {code}: it is running again."
        return LogLine(
            id=self._store.next_id(),
            account=account,
            job=job,
            program="tunesmith",
            message=text,
            severity="INFO",
            status={"code": RUNNING, "message": "Rollout is running", "details": []},
            tags=[f"{ROLLOUT_TAG}{rollout_id}"],
            extras={},
        )

    async def _commit(self, line: LogLine) -> None:
        await self._store.add(line)
        for rollout_id in dict.fromkeys(line.rollout_ids):
            async with self._held(line.account, rollout_id) as state:
                state.take(line)

    @asynccontextmanager
    async def _held(self, account: str, rollout_id: str) -> AsyncIterator[State]:
        key = (account, rollout_id)
        task = self._states.get(key)
        if task is None:
            task = self._states[key] = asyncio.create_task(self._load(*key))
        self._states.move_to_end(key)
        try:
            state = await asyncio.shield(task)
        finally:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._states.pop(key, None)  # the next one reads the store again
        if len(self._states) > KEPT_STATES + KEPT_STATES // 8:  # now and then, not every time
            self._drop_old(key)
        state.pinned += 1
        try:
            yield state
        finally:
            state.pinned -= 1

    def _loaded(self, account: str, rollout_id: str) -> State | None:
        """A state that is in memory, for a look at it that awaits nothing."""
        task = self._states.get((account, rollout_id))
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        self._states.move_to_end((account, rollout_id))
        return task.result()

    async def _load(self, account: str, rollout_id: str) -> State:
        if not self._store.knows(account, rollout_id):
            return State({}, {})  # most rollouts: new
        return State(*await asyncio.to_thread(self._store.state_of, account, rollout_id))

    def _drop_old(self, but: tuple[str, str]) -> None:
        for key in list(self._states)[: len(self._states) - KEPT_STATES]:
            task = self._states[key]
            loaded = task.done() and not task.cancelled() and task.exception() is None
            if key != but and loaded and task.result().pinned == 0:
                del self._states[key]


def _refuse_closed(state: State, job: str | None, rollout_id: str) -> None:
    if state.is_closed(job):
        raise RolloutClosed(
            f"The rollout {rollout_id} is closed: its result was fetched, and nothing that it samples now would be used. "
            "End this attempt; a new one has a rollout id of its own."
        )
