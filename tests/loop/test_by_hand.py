"""A run by hand from a hand-written run.json: orchestrator, learner and evaluator host started as plain commands.

Between orchestrator and gateway stands a proxy that can withhold an adapter: it has the engine load version 0 under every later
name and answers with the hash that the orchestrator expects. Only the canary can notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.loop import projects
from tests.loop.platform import REPO

MODEL = REPO / "platform/src/tunesmith/catalog/models/tiny-math-v1"


@contextlib.asynccontextmanager
async def gateway_behind(platform, run_dir: Path, *, withhold: bool) -> AsyncIterator[str]:
    """A proxy to the platform's internal routes; yields its URL."""

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        expected = None
        if withhold and request.method == "PUT" and json.loads(body)["version"] > 0:
            policy = json.loads(body)
            first = run_dir / "adapters" / "v000000"
            expected = policy["sha256"]
            policy |= {"adapter_path": str(first), "sha256": json.loads((first / "canary.json").read_text())["sha256"]}
            body = json.dumps(policy).encode()
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": "application/json"}
        async with client.request(request.method, platform.url + request.path_qs, data=body, headers=headers) as answer:
            content: Any = await answer.json()
            if expected is not None and answer.status == 200:
                content["sha256"] = expected
            return web.json_response(content, status=answer.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as client:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def run_by_hand(platform, folder: Path, job: str, *, withhold: bool) -> tuple[int, dict[str, Any], Path]:
    """Start the three processes and wait for the orchestrator; returns its exit code, status.json and the run directory."""
    project = projects.write(folder / "project", dataset=projects.rows(20))
    run_dir = folder / "run"
    run_dir.mkdir()
    key = (platform.data_dir / "keys" / "internal.key").read_text().strip()
    env = {
        **platform.env,
        "EP_MODEL_BASE_URL": f"{platform.url}/litellm-gateway",
        "FIREWORKS_API_KEY": key,
        "EP_REMOTE_API_KEY": key,
        "TUNESMITH_RUN_KEY": key,
    }
    async with gateway_behind(platform, run_dir, withhold=withhold) as gateway_url:
        config = {
            "job": job,
            "base_model": {"name": projects.BASE, "path": str(MODEL)},
            "dataset": str(project / "rows.jsonl"),
            "gateway_url": gateway_url,
            "host_socket": str(folder / "host.sock"),
            "chunk_size": 5,
            "n": 4,
            "sampling": {"max_tokens": 24},
            "learner": {"learning_rate": 1e-3, "lora_rank": 16},
        }
        (run_dir / "run.json").write_text(json.dumps(config))
        commands = [
            (
                ["-m", "eval_protocol.host", "--entry", "evaluation.py::scored", "--socket", folder / "host.sock"],
                project,
            ),
            (["-m", "tunesmith.training", run_dir], folder),
        ]
        background = [
            await asyncio.create_subprocess_exec(sys.executable, *map(str, argv), cwd=cwd, env=env)
            for argv, cwd in commands
        ]
        try:
            orchestrator = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tunesmith.orchestrator", str(run_dir), env=env
            )
            code = await asyncio.wait_for(orchestrator.wait(), 240)
        finally:
            for process in background:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
    return code, json.loads((run_dir / "status.json").read_text()), run_dir


async def test_a_hand_written_run_trains(platform, short_tmp):
    code, status, run_dir = await run_by_hand(platform, short_tmp, "by-hand", withhold=False)
    assert code == 0, status
    assert (status["state"], status["optimizer_steps"]) == ("COMPLETED", 4)
    assert (run_dir / "adapters" / "v000004" / "adapter_model.safetensors").exists()


async def test_an_adapter_withheld_from_the_engine_stops_the_job(platform, short_tmp):
    code, status, run_dir = await run_by_hand(platform, short_tmp, "withheld", withhold=True)
    assert code == 1
    assert status["state"] == "FAILED"
    assert "does not apply the adapter" in status["message"]
    assert len(list((run_dir / "batches").glob("*.safetensors"))) == 1, "no rollout was sampled from the wrong weights"
