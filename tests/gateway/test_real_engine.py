"""The gateway in front of the real engine and the bundled model: what it records is what the engine sampled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from safetensors.numpy import save_file
from tunesmith.catalog import BaseModelEntry, available
from tunesmith.gateway import GatewayState
from tunesmith.settings import Settings

from tests.fakes.engine import FakeSupervisor
from tests.gateway.conftest import FIVE, Gateway, make_keys, serve


@dataclass
class EngineSupervisor(FakeSupervisor):
    """A supervisor that really starts the engine, and starts it again when it is gone."""

    data_dir: Path = Path()
    entry: BaseModelEntry | None = None
    process: asyncio.subprocess.Process | None = None

    async def _engines(self, request: web.Request) -> web.StreamResponse:
        assert self.entry is not None
        self.asked.append((await request.json())["base_model"])
        port_file = self.data_dir / "port"
        if self.process is None or self.process.returncode is not None:
            port_file.unlink(missing_ok=True)
            self.process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "tunesmith.engines",
                    "--model",
                    str(self.entry.path),
                    "--name",
                    self.entry.name,
                ),
                *(
                    "--port",
                    "0",
                    "--key-file",
                    str(self.data_dir / "keys" / "engine.key"),
                    "--port-file",
                    str(port_file),
                ),
                *("--threads", "1"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        while not port_file.exists():
            assert self.process.returncode is None, "the engine ended"
            await asyncio.sleep(0.05)
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        return web.json_response({"url": url, "pid": self.process.pid, "base_model": self.entry.name})

    async def kill(self) -> None:
        """Kill the engine, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
def entry(data_dir: Path) -> BaseModelEntry:
    """The bundled model."""
    return next(entry for entry in available(data_dir / "models") if entry.source == "bundled")


@pytest.fixture
def endless(data_dir: Path, entry: BaseModelEntry) -> BaseModelEntry:
    """A copy of the bundled model that ends no answer by itself."""
    folder = data_dir / "endless"
    shutil.copytree(entry.path, folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    return replace(entry, name=str(folder), path=folder)


@asynccontextmanager
async def gateway_of(data_dir: Path, entry: BaseModelEntry) -> AsyncIterator[Gateway]:
    """A gateway whose engine is a process."""
    settings = Settings(data_dir=data_dir)
    state = GatewayState(settings)
    supervisor = EngineSupervisor(data_dir / "supervisor.sock", {}, data_dir=data_dir, entry=entry)
    await supervisor.start()
    server, task, url = await serve(state)
    async with aiohttp.ClientSession() as session:
        keys = make_keys(settings, state)
        yield Gateway(state, None, supervisor, entry.name, url, keys, session)  # type: ignore[arg-type]
    server.should_exit = True
    await task
    await supervisor.stop()
    if supervisor.process is not None and supervisor.process.returncode is None:
        await supervisor.kill()


@pytest.fixture
async def real(data_dir: Path, entry: BaseModelEntry) -> AsyncIterator[Gateway]:
    """With the bundled model."""
    async with gateway_of(data_dir, entry) as gateway:
        yield gateway


def write_adapter(folder: Path, base: Path, strength: float) -> str:
    """A LoRA of rank 2 on every q_proj, drawn from a fixed seed; returns its sha256."""
    config = json.loads((base / "config.json").read_text())
    hidden, out = config["hidden_size"], config["num_attention_heads"] * config["head_dim"]
    noise = np.random.default_rng(0)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = noise.normal(size=(2, hidden)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = (strength * noise.normal(size=(out, 2))).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    peft: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(peft))
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


async def test_calls_policies_and_a_crash(real: Gateway) -> None:
    """One test, because the engine takes seconds to start."""
    question = "Tom has 3 apples and buys 4 more. How many apples does he have?"
    options = {"logprobs": True, "return_token_ids": True, "max_tokens": 40}
    base = (await real.chat(question, temperature=0, **options)).body["choices"][0]
    streamed = await real.stream(question, temperature=0, max_tokens=40, logprobs=True)
    choices = [choice for chunk in streamed for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == base["message"]["content"]
    pieces = [item for choice in choices if choice["logprobs"] for item in choice["logprobs"]["content"]]
    assert [item["token_id"] for item in pieces] == base["token_ids"]

    # What was recorded is what the model would say of it: the engine scores the recorded ids the same.
    path = "/" + FIVE.format(r="r1-a0")
    assert (await real.chat(question, path, temperature=1, seed=5, max_tokens=40)).status == 200
    (stored,) = await real.completions("r1-a0")
    ids = stored["prompt_ids"] + stored["sampled_ids"]
    scored = await real.call(
        "POST", "/internal/policies:score", "internal", json={"model": real.base, "token_ids": ids}
    )
    own = scored.body["logprobs"][len(stored["prompt_ids"]) - 1 :]
    assert own == pytest.approx(stored["logprobs"], abs=3e-5)

    folder = real.state.settings.data_dir / "runs" / "job1" / "adapters" / "v000001"
    sha256 = write_adapter(folder, real.supervisor.entry.path, strength=0.3)  # type: ignore[attr-defined]
    policy = {
        "name": "accounts/local/models/job1-v1",
        "base_model": real.base,
        "adapter_path": str(folder),
        "sha256": sha256,
        "seed": 3,
        "job": "job1",
        "version": 1,
        "sampling": {"temperature": 1.0, "max_tokens": 30, "stop": []},
    }
    answer = await real.call("PUT", "/internal/policies", "run", json=policy)
    assert (answer.status, answer.body) == (200, {"name": policy["name"], "sha256": sha256})
    scored = await real.call(
        "POST", "/internal/policies:score", "run", json={"model": policy["name"], "token_ids": ids}
    )
    assert scored.body["logprobs"][-1] != pytest.approx(own[-1], abs=1e-6), "the adapter changes the model"

    async def roll(rollout: str) -> list[int]:
        answer = await real.chat(question, "/" + FIVE.format(r=rollout), "rollout", model=policy["name"])
        assert answer.status == 200, answer.body
        return (await real.completions(rollout))[0]["sampled_ids"]

    first = await roll("r2-a0")
    await real.supervisor.kill()  # type: ignore[attr-defined]
    second = await roll("r2-a1")  # another attempt: same noise, on an engine that was given its adapter again
    assert first == second
    assert len(real.supervisor.asked) >= 2
    assert await roll("r3-a0") != first


async def test_killed_while_it_generates(data_dir: Path, endless: BaseModelEntry) -> None:
    """Nothing that was cut off is ever taken for an answer: the stream ends with an error, the other call is answered in whole."""
    async with gateway_of(data_dir, endless) as real:
        options = {"temperature": 1, "seed": 3, "logprobs": True, "return_token_ids": True}
        whole = asyncio.create_task(real.chat("count", "/" + FIVE.format(r="whole-a0"), max_tokens=400, **options))
        assert real.session is not None
        body = {"model": real.base, "messages": [{"role": "user", "content": "count"}], "stream": True, **options}
        async with real.session.post(
            f"{real.url}/{FIVE.format(r='cut-a0')}/chat/completions",
            json=body | {"max_tokens": 3000},
            headers={"Authorization": f"Bearer {real.keys['account']}"},
        ) as response:
            assert response.status == 200
            received: list[str] = []
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                received.append(line.decode().removeprefix("data: ").strip())
                if len(received) == 12:
                    assert not whole.done(), "the call that was to be cut off was answered before"
                    await real.supervisor.kill()  # type: ignore[attr-defined]
        assert "[DONE]" not in received
        *chunks, last = map(json.loads, received)
        assert "stopped answering" in last["error"]["message"]
        assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])

        answer = await whole
        assert answer.status == 200, answer.body
        assert len(real.supervisor.asked) == 2
        choice = answer.body["choices"][0]
        assert (len(choice["token_ids"]), choice["finish_reason"]) == (400, "length")
        (stored,) = await real.completions("whole-a0")
        assert (stored["status"], stored["sampled_ids"]) == ("complete", choice["token_ids"])
        undisturbed = await real.chat("count", "/" + FIVE.format(r="again-a0"), max_tokens=400, **options)
        assert undisturbed.body["choices"][0]["token_ids"] == choice["token_ids"]

        async with asyncio.timeout(20):
            while not (cut := await real.completions("cut-a0")):
                await asyncio.sleep(0.02)
        assert [completion["status"] for completion in cut] == ["aborted"]
