"""One platform for the folder, started like a user's, and the environment of the published clients."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.servers import PUBLISHED
from tests.loop.platform import REPO, Platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="ts") as home, Platform(Path(home) / "h") as running:
        yield running


@pytest.fixture(scope="session")
def environment(platform: Platform) -> dict[str, str]:
    """What `tunesmith env` prints, which is all that the clients are told."""
    printed = platform.run("tunesmith", "env", "--json", cwd=REPO)
    assert printed.returncode == 0, printed.stdout
    return {**json.loads(printed.stdout), "PATH": f"{PUBLISHED}:{platform.env['PATH']}"}
