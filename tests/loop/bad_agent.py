"""An agent server without any SDK that misbehaves as the id of a row says; a row of another name is rolled out as it should be.

Each behaviour is a function below: what the agent does between the answer to `/init` and its end. Those that end without raising have
posted a status themselves.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.loop.agents import Notes

FINISHED = {"code": 100, "message": "Rollout finished", "details": []}
STRANGER = "a-rollout-that-nobody-began"
MEGABYTES = 10
REFUSALS = {"refuses": (422, "this agent takes no such row"), "breaks": (500, "this agent is broken")}
"""Answers to `/init`, by row."""


@dataclass(frozen=True)
class Tries:
    """What the tries of one rollout wait for."""

    again: asyncio.Event = field(default_factory=asyncio.Event)
    """Another try has begun."""
    spoken: asyncio.Event = field(default_factory=asyncio.Event)
    """The first try has had its late say."""


@dataclass(frozen=True)
class Rollout:
    """One `/init` and what is needed to act on it."""

    body: dict[str, Any]
    session: aiohttp.ClientSession
    notes: Notes
    tries: Tries

    @property
    def id(self) -> str:
        return self.body["metadata"]["rollout_id"]

    @property
    def gateway(self) -> str:
        return self.body["model_base_url"].split("/rollout_id/")[0]

    async def post(self, url: str, content: bytes) -> tuple[int, str]:
        """One POST of raw bytes with the rollout's key, noted with its answer."""
        headers = {"Authorization": f"Bearer {self.body['api_key']}", "Content-Type": "application/json"}
        async with self.session.post(url, data=content, headers=headers) as response:
            text = await response.text()
            route = url.rsplit("/", 1)[-1]
            self.notes.add("answered", rollout=self.id, route=route, status=response.status, text=text[:2000])
            return response.status, text

    async def chat(self, messages: list[Any] | None = None, model: str | None = None) -> tuple[int, str]:
        """One model call."""
        asked = {
            "model": model or self.body["completion_params"]["model"],
            "messages": messages or self.body["messages"],
            "max_tokens": 24,
        }
        return await self.post(f"{self.body['model_base_url']}/chat/completions", json.dumps(asked).encode())

    async def log(self, message: str, status: dict[str, Any] | None = None, rollout_id: str = "") -> tuple[int, str]:
        """One log line."""
        line = {"message": message, "status": status, "tags": [f"rollout_id:{rollout_id or self.id}"], "extras": {}}
        return await self.post(self.gateway + "/logs", json.dumps(line).encode())


async def proper(rollout: Rollout) -> None:
    status, text = await rollout.chat()
    failed = {"code": 3 if status == 400 else 5 if status == 404 else 13, "message": f"{status}: {text[:500]}"}
    await rollout.log("done", FINISHED if status == 200 else {**failed, "details": []})


async def never_finishes(rollout: Rollout) -> None:
    await rollout.chat()


async def finishes_twice(rollout: Rollout) -> None:
    await proper(rollout)
    await rollout.log("done, again", FINISHED)


async def ends_a_stranger(rollout: Rollout) -> None:
    await rollout.log("not mine", FINISHED, STRANGER)
    await proper(rollout)


async def logs_too_much(rollout: Rollout) -> None:
    """Ten megabytes in one line, then as many in lines of a quarter of one."""
    await rollout.log("x" * MEGABYTES * 2**20)
    for number in range(MEGABYTES * 4):
        await rollout.log(f"line {number} " + "y" * 2**18)
    await proper(rollout)


async def wrong_model(rollout: Rollout) -> None:
    status, text = await rollout.chat(model="accounts/local/models/no-such-model")
    await rollout.log("wrong model", {"code": 5, "message": f"{status}: {text[:500]}", "details": []})


async def too_long(rollout: Rollout) -> None:
    status, text = await rollout.chat([{"role": "user", "content": "apples " * 6000}])
    await rollout.log("too long", {"code": 3, "message": f"{status}: {text[:500]}", "details": []})


async def malformed_calls(rollout: Rollout) -> None:
    """Nonsense on each route, then a rollout as it should be."""
    for content in (b'{"messages": [', b"[]", b"\xff\xfe", b'{"model": 7, "messages": "x"}'):
        await rollout.post(f"{rollout.body['model_base_url']}/chat/completions", content)
    for content in (b"{", b'{"tags": "rollout_id"}'):
        await rollout.post(rollout.gateway + "/logs", content)
    await rollout.log("odd status", {"code": "one hundred"})
    await proper(rollout)


async def late(rollout: Rollout) -> None:
    """The first try goes on only after it was given up and another one has begun; that one does as it should, but later still."""
    await rollout.chat()
    await rollout.tries.again.wait()
    await rollout.chat([*rollout.body["messages"], {"role": "user", "content": "Are you still there?"}])
    await rollout.log("done, late", FINISHED)
    rollout.tries.spoken.set()


BEHAVIOURS: dict[str, Callable[[Rollout], Awaitable[None]]] = {
    "never-finishes": never_finishes,
    "finishes-twice": finishes_twice,
    "ends-a-stranger": ends_a_stranger,
    "logs-too-much": logs_too_much,
    "wrong-model": wrong_model,
    "too-long": too_long,
    "malformed-calls": malformed_calls,
    "late": late,
}


class Agent:
    """The server."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._tries: dict[str, Tries] = defaultdict(Tries)
        self._tasks: set[asyncio.Task[None]] = set()

    async def init(self, request: web.Request) -> web.Response:
        """`POST /init`."""
        body = await request.json()
        ids = body["metadata"]
        self._notes.add("init", rollout=ids["rollout_id"], row=ids["row_id"])
        if ids["row_id"] in REFUSALS:
            status, text = REFUSALS[ids["row_id"]]
            return web.Response(status=status, text=text)
        if ids["row_id"] == "slow":
            await asyncio.Event().wait()
        task = asyncio.create_task(self._roll_out(body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.Response(text='{"malformed": [' if ids["row_id"] == "odd-answer" else "{}")

    async def _roll_out(self, body: dict[str, Any]) -> None:
        first_id, _, again = body["metadata"]["rollout_id"].partition("-t")
        tries, behaviour = self._tries[first_id], BEHAVIOURS.get(body["metadata"]["row_id"], proper)
        async with aiohttp.ClientSession() as session:
            if again and behaviour is late:
                tries.again.set()
                await tries.spoken.wait()
                behaviour = proper
            await behaviour(Rollout(body, session, self._notes, tries))


async def healthy(_request: web.Request) -> web.Response:
    """`GET /health`."""
    return web.Response(text="{}")


if __name__ == "__main__":
    agent = Agent(Notes(Path(sys.argv[2])))
    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/init", agent.init), web.get("/health", healthy)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
