"""`built.json`: what a finished build of an evaluator holds, and what its owner allowed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunesmith.evaluators.declaration import Declaration

MANIFEST = "built.json"


class Manifest(BaseModel):
    """`built.json` of a finished build."""

    archive_sha256: str
    entry_point: str
    described: dict[str, Any]
    """The host's `described` object."""
    packages: list[str]
    """`name==version` of everything installed."""
    environment: str = ""
    """Digest of what the environment was made from; empty where it cannot serve another version."""
    sandbox: str
    """What confined the build."""
    declaration: Declaration | None = None
    """What the owner allowed; None: built before declarations were read."""
    built: float

    def network(self) -> Declaration:
        """What the owner allowed, the agent server included that the decorator names."""
        return (self.declaration or Declaration()).allowing(self.described.get("agent_server"))

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a build, or None when there is no whole build in `folder`."""
        file = folder / MANIFEST
        return cls.model_validate_json(file.read_text()) if file.exists() else None
