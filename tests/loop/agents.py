"""Agent servers in processes of their own, as the platform's tests roll rows out on them: started, killed, started again, and read.

`good_agent` is written like a user's (the SDK's ASGI helper, the OpenAI SDK); `bad_agent` has no SDK and misbehaves as its rows say.
Both append what happens to them to a file that outlives them: one JSON object a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.loop.platform import REPO, free_port

START_SECONDS = 90.0


class AgentServer:
    """One agent server: `python -m MODULE PORT RECORD`, always on the same port.

    Args:
        module: name of a module in this folder.
        folder: where its output, its record and its `release` file go; must exist.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self._module = f"tests.loop.{module}"
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.record = folder / "record.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AgentServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "FW_"))}
        log_path = self._folder / f"{self._module}.log"
        with open(log_path, "ab") as log:
            argv = [sys.executable, "-m", self._module, str(self.port), str(self.record)]
            self._process = subprocess.Popen(argv, cwd=REPO, env=own, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{self._module} did not come up:\n{log_path.read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """Let go what the agent holds back."""
        released(self.record).touch()

    def said(self, event: str) -> list[dict[str, Any]]:
        """What the agent recorded under an event so far, without a torn last line."""
        if not self.record.exists():
            return []
        whole = self.record.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["event"] == event]


def released(record: Path) -> Path:
    """The file that lets go what the agent with this record holds back."""
    return record.with_name("release")


class Notes:
    """The agent's side of its record."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self._file = open(record, "a", buffering=1)  # noqa: SIM115 - open until the process ends, which may be kill -9

    def add(self, event: str, **fields: Any) -> None:
        """Append one line, in the operating system's hands when this returns."""
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
