"""A small tracing gateway over real HTTP, written from the contract: logs, status with long-poll, traces. In a thread of its own.

It can be stopped and started again on the same port, with its state kept, as a gateway with a database would be.
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

NOT_ERRORS = {0, 100, 101, 102}


def rollout_of(tags: list[str]) -> list[str]:
    return [tag.removeprefix("rollout_id:") for tag in tags if tag.startswith("rollout_id:")]


@dataclass
class Rollout:
    """What is known of one rollout."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def status(self) -> dict[str, Any] | None:
        """The latest line with a status."""
        return next((line["status"] for line in reversed(self.lines) if line["status"]), None)


class GatewayDouble:
    """The gateway. `long_poll=False` ignores `wait`, as the hosted one does; `under_v1=False` knows `/logs` only without `/v1`."""

    def __init__(self, *, long_poll: bool = True, prefix: str = "/litellm-gateway") -> None:
        self.long_poll, self.prefix = long_poll, prefix
        self.rollouts: dict[str, Rollout] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path with query, bearer."""
        self.lines: list[dict[str, Any]] = []
        self.override: dict[str, tuple[int, Any]] = {}
        """First path segment after the prefix (`logs`, `status`, `traces`) -> the answer to give instead."""
        self.polled = threading.Event()
        """Set while a long-poll waits: who stops the gateway then cuts it, and meets no connection that is just being made."""
        self.missing: set[str] = set()
        """Paths that are 404 here."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._runner: web.AppRunner | None = None
        self.start()

    @property
    def url(self) -> str:
        """The gateway's base."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def start(self) -> None:
        """Listen; a second time on the same port."""
        asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    def stop(self) -> None:
        """Cut all connections and stop listening."""
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(10)

    def close(self) -> None:
        """For good."""
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def rollout(self, rollout_id: str) -> Rollout:
        """The rollout's state, made when it is new."""
        return self.rollouts.setdefault(rollout_id, Rollout())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.requests.append((request.method, request.path_qs, bearer))
        path = request.path.removeprefix(self.prefix)
        if path in self.missing:
            return web.json_response({"detail": "no such route"}, status=404)
        parts = path.removeprefix("/v1").strip("/").split("/")
        if parts[0] in self.override:
            status, body = self.override[parts[0]]
            return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())
        if parts == ["logs"] and request.method == "POST":
            return await self._log(json.loads(await request.read()))
        if parts == ["logs"]:
            return self._lines(request)
        if parts == ["status"]:
            return await self._status(request)
        if parts == ["traces", "pointwise"]:
            return self._traces(request)
        if parts[0] == "rollout_id" and parts[-2:] == ["chat", "completions"]:
            return await self._complete(dict(zip(parts[0:10:2], parts[1:10:2], strict=True)), request)
        return web.json_response({"detail": f"no route {path}"}, status=404)

    async def _log(self, line: dict[str, Any]) -> web.Response:
        self.lines.append(line)
        for rollout_id in rollout_of(line["tags"]):
            rollout = self.rollout(rollout_id)
            rollout.lines.append(line)
            async with rollout.changed:
                rollout.changed.notify_all()
        return web.json_response({})

    def _lines(self, request: web.Request) -> web.Response:
        rollouts = rollout_of(request.query.getall("tags"))
        entries = [
            {"timestamp": line["extras"].get("timestamp"), "severity": "INFO", **line}
            for line in reversed(self.lines)
            if set(rollouts) <= set(rollout_of(line["tags"]))
        ]
        return web.json_response({"entries": entries[: int(request.query.get("limit", 100))]})

    async def _status(self, request: web.Request) -> web.Response:
        rollout_id = request.query["rollout_id"]
        rollout = self.rollout(rollout_id)

        def ended() -> bool:
            status = rollout.status()
            return status is not None and status["code"] != 101

        if self.long_poll and "wait" in request.query:
            try:
                async with rollout.changed:
                    self.polled.set()
                    await asyncio.wait_for(rollout.changed.wait_for(ended), min(float(request.query["wait"]), 60))
            except TimeoutError:
                pass
        return web.json_response({"rollout_id": rollout_id, "status": rollout.status(), "extras": None})

    def _traces(self, request: web.Request) -> web.Response:
        [rollout_id] = rollout_of(request.query.getall("tags"))
        traces = self.rollout(rollout_id).traces
        chosen = traces if request.query.get("include_payloads") == "True" else traces[-1:]
        return web.json_response({"project_id": "p", "total_traces": len(chosen), "traces": chosen})

    async def _complete(self, ids: dict[str, str], request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        said = f"turn {len(self.rollout(ids['rollout_id']).traces)}"
        message = {"role": "assistant", "content": said}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        self.rollout(ids["rollout_id"]).traces.append(trace(ids["rollout_id"], body["messages"], message, usage))
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "usage": usage}
        return web.json_response({**answer, "choices": [choice]})


def trace(
    rollout_id: str,
    messages: list[dict[str, Any]],
    output: dict[str, Any],
    usage: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One model call, as the gateway shows it."""
    return {
        "id": f"trace-{rollout_id}-{len(messages)}",
        "tags": [f"rollout_id:{rollout_id}"],
        "input": {"messages": messages, "tools": None},
        "output": output,
        "metadata": {"finish_reason": "stop", "usage": usage},
        "observations": [],
        **more,
    }
