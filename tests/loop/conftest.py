"""One platform for the whole folder, started by `tunesmith up` like a user's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop.platform import Platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with (
        tempfile.TemporaryDirectory(prefix="ts") as home,
        Platform(Path(home) / "h", evaluation_timeout_seconds=3) as running,
    ):
        yield running


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a short path: unix sockets allow 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        yield Path(folder)
