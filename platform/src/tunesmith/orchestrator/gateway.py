"""Client of the gateway's internal routes: publish policy versions, score the canary, read what was sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from tunesmith.errors import FailedPrecondition, NoRoom, NotFound, PermissionDenied, TunesmithError, Unavailable
from tunesmith.orchestrator.samples import Completion

PATIENCE_SECONDS = 120.0
"""How long a gateway that does not answer (restarting) is waited for before the run gives up."""


class Gateway:
    """The gateway, as the orchestrator of one job sees it; every call carries the job's run key."""

    def __init__(self, base_url: str, key: str, patience: float = PATIENCE_SECONDS) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Gateway:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=300))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def publish(self, policy: dict[str, Any]) -> str:
        """Have the engine load a policy version; returns the sha256 of the adapter as the engine read it."""
        return (await self._call("PUT", "/internal/policies", json=policy))["sha256"]

    async def retire(self, name: str) -> None:
        """Unload a policy version; later calls to it are 410. Retiring one that is unknown is fine (it never was loaded)."""
        try:
            await self._call("DELETE", "/internal/policies", params={"name": name})
        except NotFound:
            return

    async def score(self, model: str, token_ids: list[int]) -> list[float]:
        """Log-probabilities [len(token_ids) - 1] at temperature 1."""
        return (await self._call("POST", "/internal/policies:score", json={"model": model, "token_ids": token_ids}))[
            "logprobs"
        ]

    async def completions(self, rollout_ids: Sequence[str]) -> dict[str, list[Completion]]:
        """Everything that was recorded under each of these rollouts, in turn order. They take no more calls."""
        found: dict[str, list[Completion]] = {}
        while missing := [id for id in rollout_ids if id not in found]:  # long ones come a few at a time
            answer = await self._call("POST", "/internal/rollouts:close", json={"rollout_ids": missing})
            if not answer["completions"]:
                raise Unavailable(f"The gateway left out {len(missing)} rollouts that it was asked for.")
            for id, items in answer["completions"].items():
                found[id] = [_completion(item) for item in items]
        return found

    async def uptime(self) -> float:
        """Seconds for which the gateway's process runs."""
        return float((await self._call("GET", "/internal/gateway"))["uptime_seconds"])

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """One call; connection errors and 5xx are tried again until `patience` is over."""
        assert self._session is not None
        deadline = asyncio.get_running_loop().time() + self._patience
        delay = 0.1
        while True:
            try:
                async with self._session.request(method, self.base_url + path, **arguments) as response:
                    raw = await response.read()
                    body = msgspec.json.decode(raw) if raw else {}  # several times as fast on lists of numbers
                    if response.status < 400:
                        return body
                    failure = _error(method, path, response.status, body)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                failure = Unavailable(f"{method} {self.base_url}{path} failed: {type(error).__name__} {error}")
            if not isinstance(failure, Unavailable) or asyncio.get_running_loop().time() + delay > deadline:
                raise failure
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)


def _completion(item: dict[str, Any]) -> Completion:
    return Completion(
        turn=item["turn"],
        model=item["model"],
        prompt_ids=item["prompt_ids"],
        sampled_ids=item["sampled_ids"],
        logprobs=item["logprobs"],
        status=item["status"],
        finish_reason=item.get("finish_reason"),
    )


def _error(method: str, path: str, status: int, body: Any) -> TunesmithError:
    detail = body.get("error", body) if isinstance(body, dict) else body
    message = detail.get("message", detail) if isinstance(detail, dict) else detail
    text = f"{method} {path} was answered {status}: {message}"
    if status == NoRoom.status:
        return NoRoom(str(message))  # not waited for here: the job is put back, says so, and goes on when there is room
    if status >= 500 or status == 429:
        return Unavailable(text)
    if status == 404:
        return NotFound(text)
    return PermissionDenied(text) if status in (401, 403) else FailedPrecondition(text)
