"""What a client got in full is found after kill -9 of the gateway; and the gateway's process stays light."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tunesmith.db.completions import CompletionStore
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.fakes.engine import FakeEngine, FakeSupervisor
from tests.fakes.model_folder import make_model_folder
from tests.fakes.upstream import FakeUpstream
from tests.gateway.conftest import FIVE


@dataclass
class World:
    """A data folder whose gateway runs in a process of its own."""

    data_dir: Path
    base: str
    key: str
    upstream: str

    async def start(self) -> tuple[asyncio.subprocess.Process, str]:
        """Start the process; returns it and its address once it answers."""
        port_file = self.data_dir / "url"
        port_file.unlink(missing_ok=True)
        environment = {**os.environ, "TUNESMITH_ALLOWED_UPSTREAMS": "127.0.0.1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway.process", str(self.data_dir), str(port_file), env=environment
        )
        while not port_file.exists():
            assert process.returncode is None
            await asyncio.sleep(0.02)
        return process, port_file.read_text()

    async def chat(
        self, session: aiohttp.ClientSession, url: str, rollout: str, stream: bool, passed: bool = False
    ) -> str:
        """One call; returns its text once it was received in full. Raises when the connection breaks before."""
        body = {"model": self.base, "messages": [{"role": "user", "content": f"say {rollout}"}], "stream": stream}
        headers = {"Authorization": f"Bearer {self.key}"}
        path = f"{url}/{FIVE.format(r=rollout)}"
        if passed:
            body["model"] = "gpt-x"
            path += f"/encoded_base_url/{base64.urlsafe_b64encode(self.upstream.encode()).decode()}"
        async with session.post(f"{path}/chat/completions", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            if not stream:
                return (await response.json())["choices"][0]["message"]["content"]
            text, finished = "", False
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                choice = json.loads(line[6:])["choices"][0]
                text += choice["delta"].get("content") or ""
                finished = finished or choice["finish_reason"] is not None
                if finished:
                    return text  # the last chunk: from here on the record must be there, [DONE] or not
            raise aiohttp.ClientPayloadError("cut")


@pytest.fixture
async def world(data_dir: Path) -> AsyncIterator[World]:
    folder = make_model_folder(data_dir / "base")
    keys = load_keys(Settings(data_dir=data_dir))
    engine = FakeEngine(folder, str(folder), keys.engine)
    supervisor = FakeSupervisor(data_dir / "supervisor.sock", {str(folder): engine})
    await engine.start()
    await supervisor.start()
    upstream = FakeUpstream()
    await upstream.start()
    yield World(data_dir, str(folder), keys.internal, upstream.url)
    await upstream.stop()
    await supervisor.stop()
    await engine.stop()


async def test_received_completions_survive_kill_9(world: World) -> None:
    received: dict[str, str] = {}

    async def client(session: aiohttp.ClientSession, url: str, name: str) -> None:
        for number in range(10_000):
            rollout = f"{name}-{number}"
            try:
                received[rollout] = await world.chat(session, url, rollout, number % 2 == 0, passed=number % 4 > 1)
            except (aiohttp.ClientError, OSError):
                return

    killed_in_the_middle = 0
    for round_ in range(3):
        process, url = await world.start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            before = len(received)
            clients = [asyncio.create_task(client(session, url, f"k{round_}-{n}")) for n in range(16)]
            while len(received) < before + 60 + 37 * round_:
                await asyncio.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            await asyncio.gather(*clients)
            killed_in_the_middle += len(received) - before
        assert await process.wait() == -signal.SIGKILL
    assert killed_in_the_middle >= 180

    store = CompletionStore(world.data_dir / "completions.db")
    try:
        for rollout, text in received.items():
            found = store.of_rollout(rollout)
            assert [(c.text, c.status) for c in found] == [(text, "complete")], rollout
            passed = int(rollout.rsplit("-", 1)[-1]) % 4 > 1
            assert text == ("hello there" if passed else rollout)
            assert (found[0].base_model == world.upstream) == passed
    finally:
        store.close()


async def test_the_gateways_process_imports_no_torch(world: World) -> None:
    process, url = await world.start()
    try:
        async with aiohttp.ClientSession() as session:
            await world.chat(session, url, "r", stream=False)
            async with session.get(f"{url}/modules") as response:
                loaded = {name.split(".")[0] for name in await response.json()}
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert "tokenizers" in loaded
    assert not loaded & {"torch", "transformers", "peft", "eval_protocol", "litellm", "openai"}
    assert process.returncode == 0 or process.returncode == -signal.SIGTERM
