"""A platform as a user starts it: `tunesmith up` in a home of its own, driven through the public command lines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FINAL = {"JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EARLY_STOPPED"}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Platform:
    """`tunesmith up` with its own HOME and data folder."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "TUNESMITH_"))}
        self.env |= {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "EP_DISABLE_AUTO_BROWSER": "1"}
        settings = {"preflight_rows": 0, **settings}  # it would only cost time; test_preflight.py turns it on
        self.env |= {f"TUNESMITH_{name.upper()}": str(value) for name, value in settings.items()}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.home / "d"

    def start(self) -> Platform:
        """Start and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        log = open(self.home / "up.log", "ab")  # noqa: SIM115 - inherited by the child
        argv = [BIN / "tunesmith", "up", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        self.process = subprocess.Popen(
            self.command(argv), env=self.env, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                self.get("/health")
                if (self.home / ".tunesmith" / "profile.json").exists():
                    return self
            except OSError:
                pass
            assert self.process.poll() is None, (self.home / "up.log").read_text()
            time.sleep(0.1)
        raise AssertionError("the platform did not answer: " + (self.home / "up.log").read_text())

    def command(self, argv: list[Any]) -> list[Any]:
        """How `tunesmith up` is started."""
        return argv

    def stop(self) -> int:
        """SIGTERM, as Ctrl-C would; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self) -> Platform:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    @property
    def key(self) -> str:
        return json.loads((self.home / ".tunesmith" / "profile.json").read_text())["api_key"]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the REST API with the account key; raises urllib's HTTPError."""
        headers = {"Content-Type": "application/json"}
        if path != "/health":
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.loads(response.read() or b"{}")

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def all_rollouts(self, job: str) -> list[dict[str, Any]]:
        """Of every page."""
        found, token = [], ""
        while True:
            page = self.get(f"/v1/{job}/rollouts?pageSize=200&view=SUMMARY&pageToken={token}")
            found += page["rollouts"]
            if not (token := page.get("nextPageToken", "")):
                return found

    def run(
        self, *argv: object, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 400
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user would, output captured together."""
        return subprocess.run(
            [str(word) for word in argv],
            cwd=cwd,
            env={**self.env, **(env or {})},
            timeout=timeout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def job(self, name: str) -> dict[str, Any]:
        return self.get(f"/v1/{name}")

    def wait(self, name: str, timeout: float = 400) -> dict[str, Any]:
        """Poll a job until its state is final."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            job = self.job(name)
            if job["state"] in FINAL:
                return job
            time.sleep(0.3)
        raise AssertionError(f"{name} did not end: {self.job(name)}")

    def chat(self, model: str, text: str, **params: Any) -> dict[str, Any]:
        """One chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **params}
        return self.request("POST", "/v1/chat/completions", body)
