"""The two local UIs, each over a store of its own with the same rows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from eval_protocol.results import ResultsStore

from scripts.sample_results import rows

REPO = Path(__file__).resolve().parents[2]
PUBLISHED = REPO / ".venv-clients"
START_SECONDS = 120.0
_FILL_PUBLISHED = """
import json, sys
from eval_protocol.dataset_logger.sqlite_evaluation_row_store import SqliteEvaluationRowStore
store = SqliteEvaluationRowStore(sys.argv[1])
with store._db.atomic("IMMEDIATE"):  # one transaction: 5,000 of them take minutes
    for line in sys.stdin:
        store.upsert_row(json.loads(line))
"""


@dataclass(frozen=True)
class Contender:
    """A server that runs."""

    name: str
    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Of the server and what it started, so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._tree())

    def memory_mb(self) -> float:
        """Resident memory of all of them."""
        return sum(each.memory_info().rss for each in self._tree()) / 2**20

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def ours(folder: Path, count: int) -> Iterator[Contender]:
    """Our `ep logs` over `count` rows."""
    store = folder / f"ours-{count}.db"
    with ResultsStore(store) as writer:
        for number, row in enumerate(rows(count)):
            writer.log(row)
            if number % 1000 == 999:
                writer.flush()
    command = [
        sys.executable,
        "-c",
        "from eval_protocol.cli import main; main()",
        "logs",
        "--store",
        str(store),
        "--no-open",
    ]
    with _running("ours", command, dict(os.environ)) as contender:
        yield contender


@contextmanager
def published(folder: Path, count: int) -> Iterator[Contender]:
    """The published package's `ep logs`, unmodified, over the same rows."""
    home = folder / "home"
    (home / ".eval_protocol").mkdir(parents=True)
    environment = {
        **os.environ,
        "HOME": str(home),
        "FIREWORKS_API_KEY": "",  # its parser wants the variable, and an empty one keeps it from asking a gateway
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    python, store = PUBLISHED / "bin" / "python", home / ".eval_protocol" / "logs.db"
    lines = "".join(row.model_dump_json(exclude_none=True, by_alias=True) + "\n" for row in rows(count))
    filled = subprocess.run(
        [str(python), "-c", _FILL_PUBLISHED, str(store)], input=lines, text=True, env=environment, capture_output=True
    )
    if filled.returncode:
        raise SystemExit(f"The published store could not be filled: {filled.stderr[-500:]}")
    with _running("published", [str(PUBLISHED / "bin" / "ep"), "logs"], environment) as contender:
        yield contender


@contextmanager
def _running(name: str, command: list[str], environment: dict[str, str]) -> Iterator[Contender]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://localhost:{port}"
        _wait(url, process)
        yield Contender(name, url, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + "/api/status", timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} did not answer within {START_SECONDS:g} s.")
