"""Build requests in a temporary data folder, with the stand-in SDK's wheels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tunesmith.evaluators.build import BuildRequest
from tunesmith.settings import Settings

from tests.evaluators.standin import ENTRY, make_wheels, pack


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", build_timeout_seconds=300)


@pytest.fixture
def request_for(tmp_path: Path, settings: Settings, wheels: Path) -> Callable[..., BuildRequest]:
    """Pack files and ask for their build."""

    def make(files: dict[str, str], entry: str = ENTRY, **changes) -> BuildRequest:
        account = settings.path("evaluators", "local", ".work").parent
        values = {
            "archive": pack(tmp_path / "project.tar.gz", files),
            "entry_point": entry,
            "target": account / "demo" / "1",
            "work": account / ".work",
            "log_path": settings.path("logs", "build.log"),
            "wheels": wheels,
        }
        return BuildRequest(**{**values, **changes})

    return make
