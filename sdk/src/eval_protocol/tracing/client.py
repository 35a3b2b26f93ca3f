"""Asking a tracing gateway: is the rollout over, what did its agent log, what was traced.

A gateway that is away (restarting, overloaded) is asked again until the caller's time is up; one that refuses is not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from eval_protocol import __version__
from eval_protocol.exceptions import RolloutError, UnavailableError, exception_for_status_code
from eval_protocol.models.status import Code, Status
from eval_protocol.proxies import proxy_for
from eval_protocol.tracing.lines import PROGRAM, encode
from eval_protocol.tracing.route import TracingGateway

LONGEST_WAIT = 30.0
"""Seconds of one long-poll: short enough for proxies that cut silent connections."""
SLACK_SECONDS = 5.0
"""What a long-poll may take beyond its wait, before the connection counts as dead."""
REQUEST_SECONDS = 30.0
"""Longest wait for an answer that needs no waiting."""
TRACES_SECONDS = 300.0
"""Longest wait for traces: the gateway waits for their completeness."""
PATIENCE_SECONDS = 60.0
"""How long the traces of an ended rollout are asked for while the gateway is away."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
HTTP_TO_CODE = {400: Code.INVALID_ARGUMENT, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.NOT_FOUND}

log = logging.getLogger("eval_protocol.adapters.fireworks_tracing")


class Away(Exception):
    """The gateway does not answer, or not sensibly; it may later."""


@dataclass
class Ending:
    """How a rollout ended, or how the waiting for it did."""

    status: Status | None = None
    """None: time was up."""
    code: int = 0
    """The status code as it was posted, which may be outside of the table."""
    extras: dict[str, Any] = field(default_factory=dict)
    line: dict[str, Any] | None = None
    """The log line that ended it, where the gateway's answer held it; elsewhere it is to be found among the lines."""
    trouble: str = ""
    """What the gateway's last failure was, if the last question failed."""


class GatewayClient:
    """One gateway, over the connections of one aiohttp session."""

    def __init__(self, session: aiohttp.ClientSession, gateway: TracingGateway) -> None:
        self._session = session
        self.gateway = gateway
        self._found: dict[str, str] = {}
        """Route -> the prefix under which the gateway has it."""

    async def wait_for_end(self, rollout_id: str, *, timeout: float, poll_interval: float) -> Ending:
        """Wait until the rollout's status is terminal: by long-poll where the gateway has it, else a question every `poll_interval`.

        Args:
            timeout: seconds.
            poll_interval: shortest time between two questions, in seconds.

        Raises:
            RolloutError: the gateway refuses to answer (wrong key, no such route).
        """
        loop = asyncio.get_running_loop()
        deadline, pause, trouble = loop.time() + timeout, FIRST_PAUSE, ""
        while (left := deadline - loop.time()) > 0:
            asked, wait = loop.time(), min(LONGEST_WAIT, left)
            params = {"rollout_id": rollout_id, "wait": f"{wait:.3f}"}
            try:
                answer = await self._get("/status", ("/v1", ""), params, timeout=wait + SLACK_SECONDS)
                status = _status_in(answer)
            except Away as error:
                trouble = str(error)
                await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause, trouble = FIRST_PAUSE, ""
            if status is not None and not status.is_running():
                line = answer if "message" in answer else None
                return Ending(status, answer["status"]["code"], _dict(answer.get("extras")), line)
            rest = min(asked + poll_interval, deadline) - loop.time()
            await asyncio.sleep(max(0.0, rest))
        return Ending(trouble=trouble)

    async def final_line(self, rollout_id: str, code: int) -> dict[str, Any] | None:
        """The newest log line with this status, or None: the status itself says enough, so a failure here is none of the rollout."""
        try:
            entries = await self.lines(rollout_id, limit=100)
        except (Away, RolloutError) as error:
            log.warning("The log lines of rollout %s could not be read: %s", rollout_id, error)
            return None
        for entry in entries:
            if _dict(entry.get("status")).get("code") == code:
                return {**entry, "extras": _dict(entry.get("extras"))}
        return None

    async def lines(self, rollout_id: str, *, limit: int) -> list[dict[str, Any]]:
        """The newest log lines of a rollout of the last 24 hours, newest first, as the gateway has them.

        Raises:
            Away: the gateway does not answer now.
            RolloutError: it refuses.
        """
        params = {"tags": f"rollout_id:{rollout_id}", "limit": str(limit), "hours_back": "24", "program": PROGRAM}
        answer = await self._get("/logs", ("", "/v1"), params, timeout=REQUEST_SECONDS)
        entries = answer.get("entries")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    async def traces(self, rollout_id: str, *, include_payloads: bool = False) -> list[dict[str, Any]]:
        """The rollout's traces: the latest call's, or with payloads every call's.

        Raises:
            RolloutError: the gateway refuses, or is away for longer than PATIENCE_SECONDS.
        """
        params = {
            "tags": f"rollout_id:{rollout_id}",
            "limit": "1000" if include_payloads else "100",
            "sleep_between_gets": "0.1",
            "max_retries": "5",
        }
        if include_payloads:
            params["include_payloads"] = "True"
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + PATIENCE_SECONDS, FIRST_PAUSE
        while True:
            try:
                answer = await self._get(
                    "/traces/pointwise", ("/v1", ""), params, timeout=TRACES_SECONDS, missing={"traces": []}
                )
                traces = answer.get("traces")
                if not isinstance(traces, list):
                    raise Away(f"its traces are no list: {json.dumps(answer)[:200]}")
                return [trace for trace in traces if isinstance(trace, dict)]
            except Away as error:
                if loop.time() + pause > deadline:
                    raise UnavailableError(
                        f"The traces of rollout {rollout_id} could not be fetched from {self.gateway.base}: {error}."
                    ) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def tell(self, line: dict[str, Any]) -> None:
        """Post one log line of our own; nothing depends on its arrival."""
        url = self.gateway.root + "/logs"
        try:
            async with self._session.post(
                url, data=encode(line), headers=self._headers(), timeout=_seconds(5.0), proxy=proxy_for(url)
            ) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("A status could not be posted to %s: %s", url, error)

    async def _get(
        self,
        route: str,
        prefixes: tuple[str, ...],
        params: dict[str, str],
        *,
        timeout: float,
        missing: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A JSON object from the first prefix that has the route.

        Args:
            missing: what a 404 stands for (published gateways say so when a rollout has no traces); None: an error.
        """
        if route in self._found:
            prefixes = (self._found[route],)
        status, text = 404, ""
        for prefix in prefixes:
            status, text = await self._ask(self.gateway.root + prefix + route, params, timeout)
            if status != 404:
                if status < 500:  # a 5xx may come from what stands in front of a gateway that is away
                    self._found[route] = prefix
                break
        if status == 200:
            return _object(text)
        if status == 404 and missing is not None:
            log.info("%s at %s: %s", route, self.gateway.base, _message(text))
            return missing
        if status in (408, 425, 429, 499) or status >= 500:
            raise Away(f"it answers {status}: {_message(text)}")
        hint = {
            401: "Is the key right (EP_REMOTE_API_KEY, FIREWORKS_API_KEY, ~/.tunesmith/profile.json)?",
            403: "Is the key right (EP_REMOTE_API_KEY, FIREWORKS_API_KEY, ~/.tunesmith/profile.json)?",
            404: "Is that a tracing gateway (EP_MODEL_BASE_URL, model_base_url)?",
        }.get(status, "")
        error = exception_for_status_code(
            HTTP_TO_CODE.get(status, Code.FAILED_PRECONDITION),
            f"The tracing gateway {self.gateway.base} refuses GET {route}: {status} {_message(text)}. {hint}".strip(),
        )
        assert error is not None
        error.retryable = False
        raise error

    async def _ask(self, url: str, params: dict[str, str], timeout: float) -> tuple[int, str]:
        try:
            async with self._session.get(
                url, params=params, headers=self._headers(), timeout=_seconds(timeout), proxy=proxy_for(url)
            ) as response:
                return response.status, (await response.read()).decode(errors="replace")
        except TimeoutError as error:
            raise Away(f"no answer within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Away(str(error) or type(error).__name__) from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"eval-protocol/{__version__}", "Content-Type": "application/json"}
        if self.gateway.key:
            headers["Authorization"] = f"Bearer {self.gateway.key}"
        return headers


def _status_in(answer: dict[str, Any]) -> Status | None:
    """The status of an answer; None while there is none. A code outside of the table is UNKNOWN, so that the rollout ends."""
    raw = _dict(answer.get("status"))
    code = raw.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    details = [detail for detail in raw.get("details") or [] if isinstance(detail, dict)]
    message = str(raw.get("message") or "")
    if code not in list(Code):
        return Status(code=Code.UNKNOWN, message=f"{message} (unknown status code {code})".strip(), details=details)
    return Status(code=Code(code), message=message, details=details)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Away(f"its answer is no JSON: {text[:200]}") from error
    if not isinstance(value, dict):
        raise Away(f"its answer is no JSON object: {text[:200]}")
    return value


def _message(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()[:300]
    for key in ("detail", "error", "message"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    if isinstance(value, dict) and "message" in value:
        value = value["message"]
    return (value if isinstance(value, str) else json.dumps(value))[:300]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(total: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, sock_connect=15.0)
