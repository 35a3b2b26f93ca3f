"""`tunesmith` as a person runs it: real processes, an empty home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tunesmith.cli.profile import Profile, write_profile
from tunesmith.server import create_app
from tunesmith.settings import Settings

from tests.server.conftest import Platform, serve

TUNESMITH = [sys.executable, "-m", "tunesmith"]


@dataclass
class Up:
    """A running `tunesmith up`."""

    home: Path
    data: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_until_up(self) -> Up:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("Ctrl-C stops everything"):
                return self
        raise AssertionError(f"up ended with {self.process.wait()}:\n{''.join(self.lines)}")

    @property
    def profile(self) -> dict[str, str]:
        return json.loads((self.home / ".tunesmith" / "profile.json").read_text())

    @property
    def url(self) -> str:
        return self.profile["api_base"]

    def pids(self) -> dict[str, int]:
        found = json.loads((self.data / "supervisor.json").read_text())["processes"]
        return {process["name"]: process["pid"] for process in found}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait(20)


def environment(home: Path, **extra: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TUNESMITH_", "FIREWORKS_", "EP_"))
    }
    return {**kept, "HOME": str(home), "TUNESMITH_TORCH_THREADS": "1", **extra}


def tunesmith(home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [*TUNESMITH, *arguments]
    return subprocess.run(
        command, env=environment(home, **extra), capture_output=True, text=True, timeout=60, check=False
    )


def start_up(home: Path, data: Path, *arguments: str, **extra: str) -> Up:
    home.mkdir(parents=True, exist_ok=True)
    command = [*TUNESMITH, "up", "--port", "0", "--data-dir", str(data), *arguments]
    process = subprocess.Popen(
        command, env=environment(home, **extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Up(home, data, process)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return result


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("up")
    running = start_up(folder / "home", folder / "data").wait_until_up()
    yield running
    if running.process.poll() is None:
        running.stop()
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A web process in this one, and a home whose profile points at it: for commands that are run in this process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    app = create_app(Settings(data_dir=tmp_path / "data"))
    for url in serve(app):
        with httpx2.Client(base_url=url, timeout=20) as http:
            platform = Platform(url, app.state.control, "", http)
            platform.key = platform.make_key()
            http.headers["Authorization"] = f"Bearer {platform.key}"
            write_profile(Profile(url, platform.key, "local"))
            yield platform
    app.state.control.sessions.kw["bind"].dispose()
