"""The rollouts that an agent server is working on: each one once, a bounded number at a time, each with a status at its end."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from eval_protocol.models.remote import InitRequest
from eval_protocol.models.status import Code, Status
from eval_protocol.rollouts.retries import status_for
from eval_protocol.tracing.filters import current_rollout, rollout_logging_context
from eval_protocol.tracing.lines import body, line_of
from eval_protocol.tracing.posting import GatewayHandler, LogPoster
from eval_protocol.tracing.route import TracingGateway

AgentFunction = Callable[[InitRequest], Awaitable[Status | None]]
REMEMBERED = 10_000
"""Ended rollouts whose `/init` is recognised when it comes again."""
MOST_POSTERS = 64
"""Gateways (by address and key) with a queue of their own; idle ones hold neither a thread nor a connection."""
TIMEOUT_NAMES = frozenset({"APITimeoutError", "Timeout", "TimeoutException", "ServerTimeoutError"})
"""Timeouts of HTTP clients, known by name so that none is imported."""

STOPPED = Status.rollout_unavailable_error("The agent server was stopped while the rollout ran.")

agent_log = logging.getLogger("eval_protocol.agents")
_poster: ContextVar[LogPoster | None] = ContextVar("eval_protocol_poster", default=None)


class Full(Exception):
    """No rollout more can wait."""


class _ContextHandler(GatewayHandler):
    """On the root logger: posts what is logged inside a rollout of this server, for this rollout, to its own gateway."""

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record."""
        poster, context = _poster.get(), current_rollout()
        if self.is_ours(record) or poster is None or context is None:
            return
        try:
            record.experiment_id, record.run_id = context.experiment_id, context.run_id
            poster.put(line_of(record, context.rollout_id, self.formatter))
        except Exception:  # noqa: BLE001 - the logging module's own contract: a handler reports and goes on
            self.handleError(record)


class Work:
    """Runs the function for each request."""

    def __init__(self, function: AgentFunction, max_concurrent: int, max_waiting: int) -> None:
        self._function = function
        self._most = max_concurrent + max_waiting
        self._slots = asyncio.Semaphore(max_concurrent)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._posters: OrderedDict[TracingGateway, LogPoster] = OrderedDict()
        self._handler = _ContextHandler()
        self._closing = False

    def counts(self) -> dict[str, int]:
        """What `/health` shows besides."""
        return {"rollouts": len(self._tasks), "dropped_log_lines": sum(p.dropped for p in self._posters.values())}

    def start(self, request: InitRequest, gateway: TracingGateway) -> tuple[bool, str]:
        """Begin a rollout, unless it was begun before. Returns whether it was begun now, and its state.

        Raises:
            Full: too many wait, or the server is about to stop.
        """
        rollout_id = request.metadata.rollout_id
        if rollout_id in self._tasks:
            return False, "running"
        if rollout_id in self._ended:
            return False, self._ended[rollout_id]
        if self._closing:
            raise Full("This agent server is shutting down.")
        if len(self._tasks) >= self._most:
            raise Full(f"{len(self._tasks)} rollouts are running or waiting here, which is the limit. Try again later.")
        if self._handler not in logging.getLogger().handlers:
            logging.getLogger().addHandler(self._handler)
        poster = self._poster_for(gateway)
        task = asyncio.create_task(self._run(request, poster), name=f"rollout {rollout_id}")
        self._tasks[rollout_id] = task
        task.add_done_callback(lambda _: self._forget(request, poster))
        return True, "running"

    async def close(self) -> None:
        """Stop everything: rollouts at work end as UNAVAILABLE, so that they are tried again elsewhere."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        logging.getLogger().removeHandler(self._handler)
        await asyncio.gather(*(asyncio.to_thread(poster.flush) for poster in self._posters.values()))

    async def _run(self, request: InitRequest, poster: LogPoster) -> None:
        ids = request.metadata
        status = STOPPED
        _poster.set(poster)
        with rollout_logging_context(ids.rollout_id, experiment_id=ids.experiment_id, run_id=ids.run_id):
            try:
                async with self._slots:
                    returned = await self._function(request)
                status = returned if isinstance(returned, Status) else Status.rollout_finished()
            except asyncio.CancelledError:
                # Ours when the server stops; else the agent cancelled itself.
                if not self._closing:
                    status = Status.rollout_cancelled_error("The agent cancelled the rollout.")
            except Exception as error:  # noqa: BLE001 - the agent's own code: a bad rollout is data, not a crash
                agent_log.exception("Rollout %s failed", ids.rollout_id)
                status = _status_of(error)
        self._end(request, poster, status)

    def _end(self, request: InitRequest, poster: LogPoster, status: Status) -> None:
        ids = request.metadata
        self._remember(ids.rollout_id, "failed" if status.is_error() else "finished")
        message = status.message if status.is_error() else f"Rollout {ids.rollout_id} completed"
        poster.put(body(message, [ids.rollout_id], status=status, experiment_id=ids.experiment_id, run_id=ids.run_id))

    def _remember(self, rollout_id: str, state: str) -> None:
        self._ended[rollout_id] = state
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _forget(self, request: InitRequest, poster: LogPoster) -> None:
        self._tasks.pop(request.metadata.rollout_id, None)
        if request.metadata.rollout_id not in self._ended:  # cancelled before its first step
            self._end(request, poster, STOPPED)

    def _poster_for(self, gateway: TracingGateway) -> LogPoster:
        poster = self._posters.get(gateway) or LogPoster(gateway)
        self._posters[gateway] = poster
        self._posters.move_to_end(gateway)
        while len(self._posters) > MOST_POSTERS:
            self._posters.popitem(last=False)
        return poster


def _status_of(error: Exception) -> Status:
    if any(base.__name__ in TIMEOUT_NAMES for base in type(error).__mro__):
        return Status.of(Code.DEADLINE_EXCEEDED, f"{type(error).__name__}: {error}")
    return status_for(error)
