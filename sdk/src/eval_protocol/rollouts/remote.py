"""Rolling rows out on an agent's own server: `POST /init` there, wait for the status at the tracing gateway, fetch what was traced."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval_protocol.errors import ProfileError, UsageError
from eval_protocol.exceptions import (
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    RolloutError,
    exception_for_status_code,
)
from eval_protocol.models import EvaluationRow, Status
from eval_protocol.models.remote import DataLoaderConfig
from eval_protocol.models.status import Code
from eval_protocol.rollouts.init_request import init_body
from eval_protocol.rollouts.processor import RolloutProcessor, RolloutProcessorConfig
from eval_protocol.tracing.route import TracingGateway, rollout_gateway

if TYPE_CHECKING:
    import aiohttp

    from eval_protocol.tracing.client import Ending, GatewayClient
    from eval_protocol.tracing.trajectory import OutputDataLoader

INIT_TIMEOUT_SECONDS = 600.0
"""Serverless platforms may do the whole rollout before they answer `/init`."""
KWARGS = ("remote_base_url", "poll_interval", "timeout_seconds", "init_timeout_seconds", "include_payloads")

log = logging.getLogger("eval_protocol.pytest.remote_rollout_processor")


@dataclass(frozen=True)
class _Way:
    """How the rollouts of one call go: constructor, keyword arguments and environment put together."""

    server: str
    gateway: TracingGateway
    poll_interval: float
    timeout: float
    init_timeout: float
    include_payloads: bool


class RemoteRolloutProcessor(RolloutProcessor):
    """Rolls rows out on an agent server.

    `rollout_processor_kwargs` of the decorator may give `poll_interval`, `timeout_seconds`, `init_timeout_seconds` and `include_payloads`
    anew, and `remote_base_url` where the constructor has none.

    Args:
        remote_base_url: the agent server; `EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL` wins.
        model_base_url: the tracing gateway that the agent's model calls go through; `EP_MODEL_BASE_URL` wins; None = the platform's own.
        poll_interval: shortest time between two questions for a rollout's status, in seconds. A gateway with long-poll is hardly asked twice.
        timeout_seconds: longest rollout, from the answer to `/init` on.
        include_payloads: fetch token ids and log-probabilities, too, into `execution_metadata.extra`. Needs the extra `[payloads]`.
        output_data_loader: from a DataLoaderConfig to a loader of the trajectory, in place of the gateway's traces.
        init_timeout_seconds: longest wait for the answer to `/init`.

    Raises:
        UsageError: a time that is not positive.
    """

    def __init__(
        self,
        *,
        remote_base_url: str | None = None,
        model_base_url: str | None = None,
        poll_interval: float = 1.0,
        timeout_seconds: float = 120.0,
        include_payloads: bool = False,
        output_data_loader: OutputDataLoader | None = None,
        init_timeout_seconds: float = INIT_TIMEOUT_SECONDS,
    ) -> None:
        self.remote_base_url = remote_base_url
        self.model_base_url = model_base_url
        self.poll_interval = _positive("poll_interval", poll_interval)
        self.timeout_seconds = _positive("timeout_seconds", timeout_seconds)
        self.init_timeout_seconds = _positive("init_timeout_seconds", init_timeout_seconds)
        self.include_payloads = include_payloads
        self.output_data_loader = output_data_loader
        self._session: aiohttp.ClientSession | None = None
        self._clients: dict[TracingGateway, GatewayClient] = {}

    async def acleanup(self) -> None:
        """Close the connections."""
        self._clients.clear()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
        self.cleanup()

    def __call__(self, rows: list[EvaluationRow], config: RolloutProcessorConfig) -> list[asyncio.Task[EvaluationRow]]:
        """One task per row, `config.semaphore` of them at work at a time."""
        way = self._way(config.kwargs)

        async def limited(row: EvaluationRow) -> EvaluationRow:
            async with config.semaphore:
                return await self._roll_out(row, config, way)

        return [asyncio.create_task(limited(row)) for row in rows]

    def server_url(self, kwargs: dict[str, Any]) -> str:
        """The agent server that rollouts with these `rollout_processor_kwargs` go to; empty where none is named."""
        given = os.environ.get("EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL", "").strip()
        return str(given or self.remote_base_url or kwargs.get("remote_base_url") or "").rstrip("/")

    def _way(self, kwargs: dict[str, Any]) -> _Way:
        if unknown := sorted(set(kwargs) - set(KWARGS)):
            raise UsageError(
                f"rollout_processor_kwargs has {unknown[0]!r}; RemoteRolloutProcessor takes {', '.join(KWARGS)}."
            )
        server = self.server_url(kwargs)
        if not server.startswith(("http://", "https://")):
            raise FailedPreconditionError(
                f"The agent server's URL is {server!r}: give RemoteRolloutProcessor(remote_base_url='http://...'), "
                "or set EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL."
            )
        try:
            gateway = rollout_gateway(self.model_base_url)
        except ProfileError as error:
            raise FailedPreconditionError(str(error)) from error
        if gateway is None:
            raise FailedPreconditionError(
                "No tracing gateway is known for the agent's model calls: start a platform with `tunesmith up`, "
                "or set EP_MODEL_BASE_URL and EP_REMOTE_API_KEY."
            )
        include_payloads = bool(kwargs.get("include_payloads", self.include_payloads))
        if include_payloads:
            _decompressor()
        return _Way(
            server=server,
            gateway=gateway,
            poll_interval=_positive("poll_interval", kwargs.get("poll_interval", self.poll_interval)),
            timeout=_positive("timeout_seconds", kwargs.get("timeout_seconds", self.timeout_seconds)),
            init_timeout=_positive(
                "init_timeout_seconds", kwargs.get("init_timeout_seconds", self.init_timeout_seconds)
            ),
            include_payloads=include_payloads,
        )

    async def _roll_out(self, row: EvaluationRow, config: RolloutProcessorConfig, way: _Way) -> EvaluationRow:
        from eval_protocol.rollouts.agent_server import begin  # noqa: PLC0415 - see `_connections`

        started = time.perf_counter()
        row.drop_trailing_assistant_messages()
        body = init_body(row, config.completion_params, way.gateway)
        rollout_id = body["metadata"]["rollout_id"]
        client = self._client(way.gateway)
        await begin(self._connections(), way.server, body, timeout=way.init_timeout)
        ending = await client.wait_for_end(rollout_id, timeout=way.timeout, poll_interval=way.poll_interval)
        if ending.status is not None:
            await self._note(row, client, rollout_id, ending)
        else:
            ending.status = self._late(way, rollout_id, ending.trouble)
            await client.tell(_line(rollout_id, ending.status))
        row.execution_metadata.rollout_duration_seconds = time.perf_counter() - started
        error = exception_for_status_code(ending.status.code, ending.status.message)
        if error is None:
            await self._load(row, client, rollout_id, way)
            row.rollout_status = ending.status if ending.status.code != Code.OK else Status.rollout_finished()
            return row
        if not ending.trouble:
            await self._salvage(row, client, rollout_id, way)
        raise error

    async def _note(self, row: EvaluationRow, client: GatewayClient, rollout_id: str, ending: Ending) -> None:
        """Complete a status with what its log line says, and keep the line's extras on the row."""
        assert ending.status is not None
        status = ending.status
        line = ending.line or await client.final_line(rollout_id, ending.code) or {}
        said = line.get("message") or status.message or status.code.name
        log.info("Found status log for rollout %s: %s", rollout_id, said)
        log.info("Found Fireworks log for rollout %s with status code %.1f", rollout_id, ending.code)
        details = (line.get("status") or {}).get("details")
        ending.status = Status(
            code=status.code,
            message=str((line.get("status") or {}).get("message") or status.message or said),
            details=status.details or [one for one in details or () if isinstance(one, dict)],
        )
        extras = {**ending.extras, **(line.get("extras") or {})}
        kept = {name: value for name, value in extras.items() if name not in ("logger_name", "level", "timestamp")}
        if kept:
            row.execution_metadata.extra = {**(row.execution_metadata.extra or {}), **kept}

    def _late(self, way: _Way, rollout_id: str, trouble: str) -> Status:
        if trouble:
            return Status.of(
                Code.UNAVAILABLE,
                f"The status of rollout {rollout_id} is unknown after {way.timeout:g} seconds: "
                f"the tracing gateway {way.gateway.base} is away ({trouble}).",
            )
        return Status.of(
            Code.DEADLINE_EXCEEDED,
            f"Rollout {rollout_id} timed out after {way.timeout:g} seconds: the agent server {way.server} posted no final status. "
            "See its log, or raise timeout_seconds.",
        )

    async def _salvage(self, row: EvaluationRow, client: GatewayClient, rollout_id: str, way: _Way) -> None:
        """What a failed rollout got to, onto its row: worth seeing, and never a second failure."""
        try:
            await self._load(row, client, rollout_id, way)
        except RolloutError as error:
            log.info("Nothing of the failed rollout %s can be shown: %s", rollout_id, error)

    async def _load(self, row: EvaluationRow, client: GatewayClient, rollout_id: str, way: _Way) -> None:
        """The trajectory onto the row."""
        from eval_protocol.tracing.trajectory import loaded, put_on, trajectory_of  # noqa: PLC0415

        if self.output_data_loader is not None:
            config = DataLoaderConfig(
                rollout_id=rollout_id, model_base_url=way.gateway.base, include_payloads=way.include_payloads
            )
            put_on(row, await asyncio.to_thread(loaded, self.output_data_loader, config))
            return
        traces = await client.traces(rollout_id, include_payloads=way.include_payloads)
        trajectory = trajectory_of(traces, _decompressor() if way.include_payloads else None)
        if trajectory is None:
            raise NotFoundError(
                f"No remote data found for rollout {rollout_id}: the agent server {way.server} made no model call through the "
                "model_base_url that it was given.",
                retryable=False,
            )
        if trajectory.messages == row.messages:
            raise InternalError(
                f"Rollout {rollout_id} finished with the same messages as its row: no model answer was traced at {way.gateway.base}."
            )
        put_on(row, trajectory)

    def _connections(self) -> aiohttp.ClientSession:
        import aiohttp  # noqa: PLC0415 - costs 0.15 s; scoring alone needs none

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session

    def _client(self, gateway: TracingGateway) -> GatewayClient:
        from eval_protocol.tracing.client import GatewayClient  # noqa: PLC0415 - see `_connections`

        if gateway not in self._clients:
            self._clients[gateway] = GatewayClient(self._connections(), gateway)
        return self._clients[gateway]


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"RemoteRolloutProcessor: {name} is {value!r}; it must be a number of seconds above 0.")
    return float(value)


def _decompressor() -> Any:
    from eval_protocol.tracing.payloads import decompressor  # noqa: PLC0415 - only where payloads are wanted

    return decompressor()


def _line(rollout_id: str, status: Status) -> dict[str, Any]:
    from eval_protocol.tracing.lines import body  # noqa: PLC0415 - only for rollouts that time out

    return body(status.message, [rollout_id], status=status)
