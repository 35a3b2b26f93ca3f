"""A data folder of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunesmith.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)
