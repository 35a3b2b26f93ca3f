"""What the gateway knows of an evaluation's rollouts: whether it made one fail, and how much was sampled in it."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import aiohttp

log = logging.getLogger(__name__)

UNAVAILABLE = 14
"""Status code of a rollout whose model endpoint could not be reached (google.rpc.Code)."""
NO_ERROR = frozenset({None, 0, 100, 101, 102})
"""Status codes of a rollout that did not fail."""
RESTART_MARGIN_SECONDS = 1.0
"""Between the end of a rollout and the look at the gateway's uptime."""
ANSWER_SECONDS = 10.0


class GatewayRecords:
    """The gateway's internal routes, as far as an evaluation reads them.

    Args:
        base_url: where the platform listens.
        key: `internal.key`.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def failed(self, row: dict[str, Any], longest: float) -> bool:
        """Whether a rollout without a score that ended just now, after `longest` seconds at most, failed by the gateway's fault:
        it was away, or was started while the rollout ran.
        """
        code = (row.get("rollout_status") or {}).get("code")
        if code in NO_ERROR:
            return False
        if code == UNAVAILABLE:
            return True
        seconds = (row.get("execution_metadata") or {}).get("rollout_duration_seconds")
        ran = min(longest, seconds) if isinstance(seconds, int | float) else longest
        answer = await self._get("/internal/gateway")
        return answer is None or answer["uptime_seconds"] < ran + RESTART_MARGIN_SECONDS

    async def tokens(self, rollout_id: str, row: dict[str, Any]) -> tuple[int, int]:
        """(read, sampled) by the model for a row: as the row says, else as they were recorded."""
        usage = (row.get("execution_metadata") or {}).get("usage")
        if isinstance(usage, dict):
            read, sampled = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if isinstance(read, int) and isinstance(sampled, int):
                return read, sampled
        answer = await self._get(f"/internal/rollouts/{quote(rollout_id, safe='')}/completions")
        calls = answer["completions"] if answer else []
        return sum(len(call["prompt_ids"]) for call in calls), sum(len(call["sampled_ids"]) for call in calls)

    async def _get(self, path: str) -> dict[str, Any] | None:
        """None when it does not answer now."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as client:
                async with client.get(self._base_url + path) as answer:
                    answer.raise_for_status()
                    return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("The gateway did not answer %s: %s", path, error)
            return None
