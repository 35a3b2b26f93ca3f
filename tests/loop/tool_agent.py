"""The tool agent's server, started as its README says and stopped with the caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.loop.platform import REPO, free_port

EXAMPLE = REPO / "examples" / "tool_agent"
EVALUATOR = EXAMPLE / "evaluator"
BASE = "accounts/tunesmith/models/tiny-tools-v1"
START_SECONDS = 60.0


@dataclass(frozen=True)
class AgentServer:
    """A running agent server."""

    url: str
    pid: int

    @property
    def setting(self) -> dict[str, str]:
        """What tells an evaluator where it is."""
        return {"EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL": self.url}

    def env_file(self, path: Path) -> Path:
        """The setting as a file of secrets, for `ep create rft --env-file`."""
        path.write_text("".join(f"{name}={value}\n" for name, value in self.setting.items()))
        return path


@contextmanager
def agent_server(log: Path) -> Iterator[AgentServer]:
    """`python -m server` on a free port, its output in `log`. Raises RuntimeError when it does not come up."""
    port = free_port()
    own = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "FW_"))}
    with open(log, "wb") as output:
        argv = [sys.executable, "-m", "server", "--port", str(port)]
        process = subprocess.Popen(argv, cwd=EXAMPLE, env=own, stdout=output, stderr=output, start_new_session=True)
    try:
        server = AgentServer(f"http://127.0.0.1:{port}", process.pid)
        _wait(process, server.url, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the agent server did not come up:\n{log.read_text()[-2000:]}")
