"""`ep logs` as a user starts it, in a process of its own, over a results store of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.loop.platform import BIN

FIELD = {
    "name": "$.eval_metadata.name",
    "model": "$.input_metadata.completion_params.model",
    "invocation": "$.execution_metadata.invocation_id",
    "score": "$.evaluation_result.score",
}


@dataclass
class LocalUi:
    """A running `ep logs`."""

    url: str
    store: Path
    env: dict[str, str]
    """The environment of its owner: an eval that runs in it writes to the same store."""

    def get(self, path: str, **query: str) -> Any:
        """What a route answers."""
        return json.loads(self.read(path, **query))

    def read(self, path: str, **query: str) -> str:
        """A route's answer as text."""
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=30) as response:
            return response.read().decode()


def group(*filters: dict[str, Any], logic: str = "AND") -> dict[str, Any]:
    """One group of a `filterConfig`."""
    return {"logic": logic, "filters": list(filters)}


def equals(field: str, value: str) -> dict[str, Any]:
    """The condition that a one-click filter makes."""
    return {"field": field, "operator": "==", "value": value, "type": "text"}


def address(page: str, state: dict[str, Any]) -> str:
    """A path of the local UI with this state in its query: documented keys, values as JSON."""
    return f"/{page}?{urllib.parse.urlencode({key: json.dumps(value) for key, value in state.items()})}"


@contextmanager
def ep_logs(home: Path) -> Iterator[LocalUi]:
    """Start it on a free port with the store `home/results.db`; ended as Ctrl-C ends it."""
    home.mkdir(parents=True, exist_ok=True)
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("FIREWORKS_", "EP_", "TUNESMITH_"))
    }
    env |= {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "EP_DISABLE_AUTO_BROWSER": "1"}
    env |= {"EP_RESULTS_DB": str(home / "results.db"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [BIN / "ep", "logs", "--port", "0"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        found = re.search(r"http://localhost:\d+", said)
        assert found, said
        yield LocalUi(found[0], home / "results.db", env)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(20)
        left = process.stdout.read()
        process.stdout.close()
    assert status == 0, left
    assert "Traceback" not in left, left
