"""The orchestrator's world at its three seams: an evaluator host, a gateway and a learner that answer by the contract, instantly."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from tunesmith.runs.batch import Batch
from tunesmith.runs.files import adapter_path, batch_path

SHA = "5" * 64


def default_score(rollout_id: str) -> dict[str, Any]:
    """A coin from the rollout id without its attempt, so that a repeated attempt scores the same."""
    coin = hashlib.sha256(rollout_id.rsplit("-a", 1)[0].encode()).digest()[0] % 2
    return {"score": float(coin), "is_score_valid": True, "reason": "", "code": 100}


class World:
    """Runs in the test's event loop; the orchestrator is a real process that talks to it."""

    def __init__(
        self, run_dir: Path, *, score: Callable[[str], dict[str, Any]] = default_score, delay: float = 0.0
    ) -> None:
        self.run_dir = run_dir
        self.score = score
        self.delay = delay
        self.asked: list[str] = []
        self.models: dict[str, str] = {}
        """Policy version that each rollout was asked of; another World's host may have been asked, then it is the newest."""
        self.requests = 0
        self.loaded: dict[str, dict[str, Any]] = {}
        self.retired: list[str] = []
        self.withhold_from: int | None = None
        """From this version on the engine keeps applying version 0 under the new name."""
        self.uptime = 1e6
        """Seconds for which the gateway says that it runs."""
        self.away = 0
        """So many times the gateway is asked for its uptime and does not answer yet."""
        self.lag = 0
        """The learner publishes version v once the chunk v + lag - 1 was asked for: the latest moment at which a run may need it."""
        self.silent = 0
        """So many rollouts are asked for and not answered."""
        self.slow: Callable[[str], bool] = lambda rollout_id: False
        """Rollouts (by id) that do not end before they are cancelled, and then are answered for, too late."""
        self.cancelled: list[str] = []
        self._cancelling = asyncio.Condition()

    async def __aenter__(self) -> World:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        app = web.Application()
        app.router.add_put("/internal/policies", self._publish)
        app.router.add_delete("/internal/policies", self._retire)
        app.router.add_post("/internal/policies:score", self._canary)
        app.router.add_post("/internal/rollouts:close", self._close)
        app.router.add_get("/internal/gateway", self._uptime)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.socket = self.run_dir / "h.sock"
        self._host = await asyncio.start_unix_server(self._serve_host, str(self.socket))
        self._learner = asyncio.create_task(self._learn())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._learner.cancel()
        self._host.close()
        await self._runner.cleanup()

    async def host_away(self, seconds: float) -> None:
        """Take the evaluator host away now, and bring it back so many seconds after the run's first look for it."""
        self._host.close()
        self.socket.unlink(missing_ok=True)

        async def back() -> None:
            while not self.loaded:
                await asyncio.sleep(0.01)
            await asyncio.sleep(seconds)
            self._host = await asyncio.start_unix_server(self._serve_host, str(self.socket))

        self._returning = asyncio.create_task(back())

    def configure(self, rows: int = 6, **overrides: Any) -> None:
        """Write run.json and the rows."""
        data = self.run_dir / "rows.jsonl"
        data.write_text(
            "".join(json.dumps({"messages": [{"role": "user", "content": str(i)}]}) + "\n" for i in range(rows))
        )
        config = {
            "job": "job",
            "base_model": {"name": "base", "path": "/nowhere"},
            "dataset": str(data),
            "gateway_url": self.url,
            "host_socket": str(self.socket),
            "chunk_size": 2,
            "n": 4,
            "sampling": {"max_tokens": 8},
            **overrides,
        }
        (self.run_dir / "run.json").write_text(json.dumps(config))

    async def start(self) -> asyncio.subprocess.Process:
        """Start the orchestrator process."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunesmith.orchestrator", str(self.run_dir), stderr=asyncio.subprocess.PIPE
        )

    async def run(self) -> tuple[int, dict[str, Any], str]:
        """Run it to the end; returns exit code, status.json and what it said on stderr."""
        process = await self.start()
        _, said = await asyncio.wait_for(process.communicate(), 300)
        assert process.returncode is not None
        return process.returncode, self.status(), said.decode()

    async def run_with_kills(self, seed: int, kills: int) -> int:
        """kill -9 at random instants, starting it again each time; returns how many kills landed."""
        rng, landed = random.Random(seed), 0
        for _ in range(kills):
            process = await self.start()
            ended = asyncio.create_task(process.communicate())
            target = len(self.asked) + rng.randint(1, 12)
            while len(self.asked) < target and not ended.done():
                await asyncio.sleep(0.002)
            await asyncio.sleep(rng.uniform(0, 0.03))
            if not ended.done():
                process.kill()
                landed += 1
            await ended
        await self.run()
        return landed

    def status(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "status.json").read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / name).read_text().splitlines()]

    def batches(self) -> list[Batch]:
        return [Batch.read(path) for path in sorted((self.run_dir / "batches").glob("step-*.safetensors"))]

    async def _serve_host(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            if request["type"] == "describe":
                writer.write(b'{"type":"described","passed_threshold":null}\n')
                return
            if request["type"] == "cancel":
                await self.let_end(*request["rollouts"])
                writer.write(b'{"type":"done"}\n')
                return
            self.requests += 1
            late: list[dict[str, Any]] = []
            for attempt in request["attempts"]:
                self.asked.append(attempt["rollout_id"])
                self.models[attempt["rollout_id"]] = request["completion_params"].get("model", "")
                await asyncio.sleep(self.delay)
                if self.silent:
                    self.silent -= 1
                    continue
                if self.slow(attempt["rollout_id"]):
                    late.append(attempt)
                    continue
                writer.write(self._answer(attempt))
                await writer.drain()
            for attempt in late:
                await self._cancellation(attempt["rollout_id"], reader)
                writer.write(self._answer(attempt))
            writer.write(b'{"type":"done"}\n')
            await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the orchestrator was killed
        finally:
            writer.close()

    def _answer(self, attempt: dict[str, Any]) -> bytes:
        """The event of a rollout that has ended."""
        verdict = dict(self.score(attempt["rollout_id"]))
        row = {**attempt["row"], "rollout_status": {"code": verdict.pop("code"), "message": ""}}
        row["execution_metadata"] = {"rollout_duration_seconds": verdict.pop("seconds", None)}
        names = ("row_index", "k", "attempt", "rollout_id")
        event = {"type": "rollout", **{name: attempt[name] for name in names}, "row": row, **verdict}
        return json.dumps(event).encode() + b"\n"

    async def let_end(self, *rollout_ids: str) -> None:
        """Have slow rollouts answered for: they were cancelled, or end at last."""
        async with self._cancelling:
            self.cancelled += rollout_ids
            self._cancelling.notify_all()

    async def _cancellation(self, rollout_id: str, reader: asyncio.StreamReader) -> None:
        """Wait until a rollout is cancelled. Raises ConnectionError when the orchestrator goes away first."""

        async def told() -> None:
            async with self._cancelling:
                await self._cancelling.wait_for(lambda: rollout_id in self.cancelled)

        waiting = {asyncio.create_task(told()), asyncio.create_task(reader.read(1))}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if rollout_id not in self.cancelled:
            raise ConnectionError

    async def _publish(self, request: web.Request) -> web.Response:
        policy = await request.json()
        self.loaded[policy["name"]] = policy
        return web.json_response({"name": policy["name"], "sha256": policy["sha256"]})

    async def _retire(self, request: web.Request) -> web.Response:
        self.retired.append(request.query["name"])
        return web.json_response({})

    async def _canary(self, request: web.Request) -> web.Response:
        body = await request.json()
        version = self.loaded[body["model"]]["version"]
        applied = 0 if self.withhold_from is not None and version >= self.withhold_from else version
        return web.json_response({"logprobs": [-1.0 - applied / 100] * (len(body["token_ids"]) - 1)})

    async def _close(self, request: web.Request) -> web.Response:
        ids = (await request.json())["rollout_ids"]
        few = ids[:3]  # as many as the gateway puts into one answer
        return web.json_response({"completions": {rollout: [self._completion(rollout)] for rollout in few}})

    def _completion(self, rollout: str) -> dict[str, Any]:
        newest = max(self.loaded.values(), key=lambda policy: policy["version"])
        ids = list(hashlib.sha256(rollout.rsplit("-a", 1)[0].encode()).digest()[:4])
        return {
            "turn": 0,
            "model": self.models.get(rollout.split("-t")[0]) or newest["name"],
            "prompt_ids": [1, 2],
            "sampled_ids": ids,
            "logprobs": [-0.25] * 4,
            "status": "complete",
            "finish_reason": "stop",
        }

    async def _uptime(self, _request: web.Request) -> web.Response:
        if self.away:
            self.away -= 1
            return web.json_response({"error": {"message": "starting"}}, status=503)
        return web.json_response({"uptime_seconds": self.uptime})

    async def _learn(self) -> None:
        version = 0
        while True:
            if version == 0 or (batch_path(self.run_dir, version - 1).exists() and self._is_needed(version)):
                folder = adapter_path(self.run_dir, version)
                temporary = folder.with_name(f"{folder.name}.tmp")
                temporary.mkdir(parents=True, exist_ok=True)
                canary = {"token_ids": [1, 2, 3], "logprobs": [-1.0 - version / 100] * 2, "sha256": SHA}
                (temporary / "canary.json").write_text(json.dumps(canary))
                temporary.rename(folder)
                version += 1
            await asyncio.sleep(0.01)

    def _is_needed(self, version: int) -> bool:
        if not self.lag or (self.run_dir / "batches" / "END").exists():
            return True
        return any(rollout.startswith(f"job-c{version + self.lag - 1}-") for rollout in self.asked)
