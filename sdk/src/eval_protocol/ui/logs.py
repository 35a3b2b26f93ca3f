"""The lines of a rollout: those that its process logged here, and those that its agent posted to a tracing gateway.

Lines of this machine wake the pages by themselves. A gateway wakes nobody, so while a page shows the lines of a rollout that runs, the
gateway is asked again every two seconds, and the pages are told when there are more.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eval_protocol.errors import EvalProtocolError
from eval_protocol.models.status import Code
from eval_protocol.results.logs import LogLine, level_number, lines_of
from eval_protocol.tracing.route import TracingGateway
from eval_protocol.ui.reader import Reader

if TYPE_CHECKING:
    import aiohttp

    from eval_protocol.tracing.client import GatewayClient

GATEWAY_SECONDS = 5.0
"""Longest wait for the gateway while a page waits for lines."""
ASK_SECONDS = 2.0
FOLLOW_SECONDS = 600.0
"""How long a rollout is followed after a page asked for its lines last."""
MOST_FOLLOWED = 8
MOST_GATEWAY_LINES = 1000


class RolloutLogs:
    """Answers `GET /api/logs/{rollout_id}`.

    Args:
        gateway: where agents of remote rollouts post their lines; None: only what was logged on this machine is shown.
        tell: called with a rollout id when the gateway has new lines of it.
    """

    def __init__(
        self,
        reader: Reader,
        gateway: TracingGateway | None = None,
        tell: Callable[[str], None] = lambda rollout_id: None,
    ) -> None:
        self._reader = reader
        self._tell = tell
        self.gateway = gateway
        self._session: aiohttp.ClientSession | None = None
        self._client: GatewayClient | None = None
        self._followed: dict[str, tuple[asyncio.Task[None], float]] = {}
        """Rollout id -> the task that asks for it, and until when (the loop's clock)."""

    async def close(self) -> None:
        """Stop asking, close the connections."""
        tasks = [task for task, _ in self._followed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def lines(self, rollout_id: str, level: str | None, limit: int) -> dict[str, Any]:
        """The last `limit` lines of at least `level`, oldest first, in the published shape; `notice` says what is missing."""
        number = level_number(level)
        local = await self._reader.run(lines_of, rollout_id, level=number, limit=limit)
        merged, notice = [_wire(line) for line in local], None
        if self.gateway is not None:
            try:
                posted = await self._posted(rollout_id)
                merged += [line for line in posted if level_number(line["level"]) >= number]
                await self._follow(rollout_id, len(posted))
            except EvalProtocolError as error:
                notice = str(error)
        merged.sort(key=lambda line: line["@timestamp"])
        answer: dict[str, Any] = {"logs": merged[-limit:], "total": len(merged[-limit:]), "rollout_id": rollout_id}
        if level:
            answer["filtered_by_level"] = level
        if notice:
            answer["notice"] = notice
        return answer

    async def _posted(self, rollout_id: str) -> list[dict[str, Any]]:
        """The agent's lines. Raises EvalProtocolError when the gateway is away or refuses."""
        from eval_protocol.tracing.client import Away  # noqa: PLC0415 - aiohttp's client, only where there is a gateway

        assert self.gateway is not None
        try:
            async with asyncio.timeout(GATEWAY_SECONDS):
                entries = await self._gateway_client().lines(rollout_id, limit=MOST_GATEWAY_LINES)
        except (Away, TimeoutError) as error:
            why = str(error) or f"no answer within {GATEWAY_SECONDS:g} s"
            raise EvalProtocolError(f"The agent's lines could not be read from {self.gateway.base}: {why}.") from error
        return [_posted_wire(entry, rollout_id) for entry in entries]

    def _gateway_client(self) -> GatewayClient:
        import aiohttp  # noqa: PLC0415 - as above

        from eval_protocol.tracing.client import GatewayClient  # noqa: PLC0415

        if self._client is None:
            assert self.gateway is not None
            self._session = aiohttp.ClientSession()
            self._client = GatewayClient(self._session, self.gateway)
        return self._client

    async def _follow(self, rollout_id: str, seen: int) -> None:
        until = asyncio.get_running_loop().time() + FOLLOW_SECONDS
        known = self._followed.get(rollout_id)
        if known is not None:
            self._followed[rollout_id] = (known[0], until)
        elif len(self._followed) < MOST_FOLLOWED and await self._reader.run(_runs, rollout_id):
            self._followed[rollout_id] = (asyncio.create_task(self._ask(rollout_id, seen)), until)

    async def _ask(self, rollout_id: str, seen: int) -> None:
        """Tell of new lines until the rollout has ended, or nobody has asked for a while."""
        try:
            while True:
                await asyncio.sleep(ASK_SECONDS)
                running = await self._reader.run(_runs, rollout_id)
                with contextlib.suppress(EvalProtocolError):  # away for now; the page has been told
                    count = len(await self._posted(rollout_id))
                    if count != seen:
                        self._tell(rollout_id)
                    seen = count
                if not running or asyncio.get_running_loop().time() > self._followed[rollout_id][1]:
                    return
        finally:
            self._followed.pop(rollout_id, None)


def _runs(connection: sqlite3.Connection, rollout_id: str) -> bool:
    found = connection.execute("SELECT status FROM summaries WHERE rollout_id = ?", (rollout_id,)).fetchone()
    return found is not None and found[0] == Code.RUNNING


def _wire(line: LogLine) -> dict[str, Any]:
    wire = {
        "@timestamp": datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": line.level,
        "message": line.message,
        "logger_name": line.logger,
        "rollout_id": line.rollout_id,
    }
    return _with_status(wire, line.status)


def _posted_wire(entry: dict[str, Any], rollout_id: str) -> dict[str, Any]:
    """A gateway's entry as a line: the agent's own level, logger and time where it sent them."""
    extras = entry.get("extras")
    extras = extras if isinstance(extras, dict) else {}
    wire = {
        "@timestamp": str(extras.get("timestamp") or entry.get("timestamp") or ""),
        "level": str(extras.get("level") or entry.get("severity") or "INFO"),
        "message": str(entry.get("message") or ""),
        "logger_name": str(extras.get("logger_name") or "agent"),
        "rollout_id": rollout_id,
    }
    return _with_status(wire, entry.get("status"))


def _with_status(wire: dict[str, Any], status: Any) -> dict[str, Any]:
    if isinstance(status, dict) and status.get("code") is not None:
        wire["status_code"] = status["code"]
        wire["status_message"] = status.get("message")
        wire["status_details"] = status.get("details")
    return wire
