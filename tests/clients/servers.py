"""Agent servers in environments of their own, started for a test and stopped with it."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.loop.platform import REPO, free_port

PUBLISHED = REPO / ".venv-clients" / "bin"
"""Where the published eval-protocol is installed; `make test-clients` sees to it."""
AGENTS = REPO / ".venv-agents" / "bin"
"""Where the OpenAI Agents SDK is installed, beside our SDK; `make test-clients` sees to it."""
HERE = Path(__file__).parent
START_SECONDS = 300.0


@contextmanager
def serving(python: Path, module: str, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """The address of `module:app`, run by uvicorn of an environment, its output in `log`.

    Raises AssertionError when it does not come up, with what it said.
    """
    port = free_port()
    argv: Sequence[object] = [
        python,
        "-m",
        "uvicorn",
        f"{module}:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in argv], cwd=HERE, env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
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
            time.sleep(0.2)
    raise AssertionError(f"the agent server did not come up:\n{log.read_text()[-3000:]}")
