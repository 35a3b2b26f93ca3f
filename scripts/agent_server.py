"""The SVG example's agent servers, started the way its README does and stopped with the caller."""

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

from scripts.story import REPO, free_port

SERVERS = REPO / "examples" / "svg_agent"
KINDS = ("py", "ts")
START_SECONDS = 90.0


@dataclass(frozen=True)
class Agent:
    """A running agent server."""

    url: str
    pid: int

    @property
    def setting(self) -> dict[str, str]:
        """The environment that sends an evaluation's rollouts to it."""
        return {"EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL": self.url}

    def env_file(self, path: Path) -> Path:
        """`setting` as a file for `--env-file`: uploaded as a secret, like all of .env, it reaches the evaluator on the platform, too."""
        path.write_text("".join(f"{name}={value}\n" for name, value in self.setting.items()))
        return path


@contextmanager
def agent_server(kind: str, log: Path, port: int | None = None) -> Iterator[Agent]:
    """A running agent server.

    Args:
        kind: `py` or `ts`; the latter is installed (`npm ci`) and compiled first.
        log: its output.
        port: None = 3000 when that is free; 0 = any free one.

    Raises:
        RuntimeError: it did not come up; with what it said.
    """
    port = free_port(3000 if port is None else port)
    url = f"http://127.0.0.1:{port}"
    own = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "FW_"))}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*_command(kind, log), "--port", str(port)],
            cwd=SERVERS / f"server_{kind}",
            env=own,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, url, log)
        yield Agent(url, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def shown_command(kind: str) -> str:
    """What a person types."""
    return f"cd examples/svg_agent/server_{kind} && " + ("python agent.py" if kind == "py" else "npm ci && npm start")


def _command(kind: str, log: Path) -> list[str]:
    if kind == "py":
        return [sys.executable, "agent.py"]
    folder = SERVERS / "server_ts"
    steps = [] if (folder / "node_modules" / ".package-lock.json").exists() else [["npm", "ci"]]
    for argv in [*steps, ["npm", "run", "build"]]:
        try:
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise RuntimeError("The TypeScript server needs Node 20 or newer with npm; neither is on PATH.") from error
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)} failed in {folder}:\n{(done.stdout + done.stderr)[-2000:]}")
    return ["node", "dist/dev.js"]


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the agent server did not come up:\n{log.read_text()[-2000:]}")
