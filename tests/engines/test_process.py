"""The process: what stops it from starting is said in a line, and it ends when told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.contract.engine import EngineClient, EngineTarget
from tests.engines.makers import engine_process


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunesmith.engines", "--name", "base", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key").write_text("secret")
    return str(tmp_path / "key")


def test_a_taken_port_is_told(model: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start("--model", str(model), "--port", str(port), "--key-file", key)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_missing_or_empty_key_is_told(model: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    ended = start("--model", str(model), "--port", "0", "--key-file", str(tmp_path / "key"))
    assert ended.returncode == 1
    assert str(tmp_path / "key") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_is_no_model_is_told(tmp_path: Path, key: str) -> None:
    ended = start("--model", str(tmp_path / "nothing"), "--port", "0", "--key-file", key)
    assert ended.returncode == 1
    assert str(tmp_path / "nothing") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ctrl_c_ends_it_while_a_request_runs(model: Path, tmp_path: Path) -> None:
    async def drive(url: str, pid: int) -> None:
        async with EngineClient(url, "secret") as client:
            with contextlib.suppress(aiohttp.ClientError):
                async for _ in client.events(prompt_ids=[20], max_tokens=2000, n=64, temperature=1.0):
                    os.kill(pid, signal.SIGINT)

    with engine_process(model, tmp_path, "--kv-tokens", "200000") as (url, pid):
        begun = time.monotonic()
        asyncio.run(drive(url, pid))
        assert time.monotonic() - begun < 20


async def test_a_caller_that_hangs_up_frees_its_slots(engine: EngineTarget) -> None:
    async with EngineClient(engine.url, engine.key) as client:
        body = {"prompt_ids": [20, 21], "max_tokens": 2000, "n": 128, "temperature": 1.0, "request_id": "hung-up"}
        async with client.session.post("/generate", json=body) as response:
            await response.content.readline()
            response.close()
        for _ in range(100):  # the id is free again once the request is gone
            async with client.session.post("/generate", json={**body, "n": 1, "max_tokens": 1}) as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.02)
    raise AssertionError("the request of a caller that hung up still runs after two seconds")


async def test_a_waiting_caller_that_hangs_up_is_forgotten(engine: EngineTarget) -> None:
    """One that asked for no stream has not had a byte yet."""
    async with EngineClient(engine.url, engine.key) as client:
        body = {"prompt_ids": [20, 21], "max_tokens": 2000, "n": 128, "temperature": 1.0, "request_id": "silent"}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.generate(**body, stream=False), 0.1)
        for _ in range(100):
            async with client.session.post("/generate", json={**body, "n": 1, "max_tokens": 1}) as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.02)
    raise AssertionError("the request of a caller that hung up still runs after two seconds")
