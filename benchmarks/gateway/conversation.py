"""Whole rollouts on the token path: long conversations turn by turn, and the short answers of plain training."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.gateway.load import Agent, cpu_seconds, prepared

_SHORT_TOKENS = 60
_IDS = "/v1/rollout_id/{r}/invocation_id/i/experiment_id/e/run_id/n/row_id/w"


@dataclass(frozen=True)
class Turns:
    """How long the conversations are, and how many run at once."""

    turns: int
    rollouts: int


async def measure_turns(url: str, pid: int, key: str, model: str, asked: Turns) -> list[float]:
    """CPU microseconds per token (prompt and completion) of each turn; every rollout makes its turn before the next begins."""
    agents = [await Agent().open(url) for _ in range(asked.rollouts)]
    messages = [[{"role": "user", "content": "Begin."}] for _ in agents]
    per_token = []

    async def turn(number: int) -> int:
        body = json.dumps({"model": model, "messages": messages[number], "max_tokens": 4000, "logprobs": True}).encode()
        path = _IDS.format(r=f"long-{number}") + "/chat/completions"
        answer = msgspec.json.decode(
            (await agents[number].call(prepared(url, path, key, body))).partition(b"\r\n\r\n")[2]
        )
        messages[number] += [answer["choices"][0]["message"], {"role": "user", "content": "Go on, please."}]
        return answer["usage"]["total_tokens"]

    for _ in range(asked.turns):
        before = cpu_seconds(pid)
        tokens = sum(await asyncio.gather(*(turn(number) for number in range(asked.rollouts))))
        per_token.append((cpu_seconds(pid) - before) / tokens * 1e6)
    for agent in agents:
        agent.close()
    return per_token


async def measure_short(url: str, pid: int, key: str, model: str, calls: int) -> float:
    """CPU seconds of one rollout of plain training: one call with a 60-token answer, recorded, then read by the orchestrator."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": _SHORT_TOKENS}
    ).encode()
    left = iter(range(calls))
    costs = []

    async def agent() -> None:
        connection = await Agent().open(url)
        for number in left:
            path = _IDS.format(r=f"short-{number}") + "/chat/completions"
            await connection.call(prepared(url, path, key, body))
        connection.close()

    for _ in range(4):
        left = iter(range(len(costs) * calls // 4, (len(costs) + 1) * calls // 4))
        before = cpu_seconds(pid)
        await asyncio.gather(*(agent() for _ in range(16)))
        costs.append((cpu_seconds(pid) - before) / (calls // 4))
    return median(costs)
