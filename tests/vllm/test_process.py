"""The processes: nothing of vLLM outlives the engine, and the engine does not outlive vLLM."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.vllm.conftest import vllm_process

pytestmark = pytest.mark.vllm


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_kill_9_of_the_engine_takes_vllm_along(vllm_python: Path, model: Path, tmp_path: Path) -> None:
    with vllm_process(vllm_python, model, tmp_path / "engine") as (_, process):
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(children) >= 2, "the server and its core"
        process.kill()
        process.wait()
        wait_until_gone(children)


def test_the_engine_ends_with_vllm_and_says_so(vllm_python: Path, model: Path, tmp_path: Path) -> None:
    with vllm_process(vllm_python, model, tmp_path / "engine") as (url, process):
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert json.loads(answer.read()) == {"status": "ok"}
        (server,) = psutil.Process(process.pid).children()
        others = [child.pid for child in server.children(recursive=True)]
        os.kill(server.pid, signal.SIGKILL)
        assert process.wait(60) == 1
        wait_until_gone(others)
    assert "engine: vLLM ended" in (tmp_path / "engine" / "log").read_text()
