"""`resumed.json`: that a failed run was taken up again, and what of it is rolled out anew. Written by the handler.

A run that failed because too many scores were invalid would fail again at once if it reused them. So a resumed run counts rollouts
without a valid score that were recorded before as missing, in chunks and evaluations that have not ended; all others are reused.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tunesmith.runs.files import write_atomic

RESUMED_FILE = "resumed.json"


class Resumed(BaseModel):
    """The latest resumption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: float
    """Unix seconds at which it was asked for."""
    rollouts: int
    """Size of `rollouts.jsonl` then, in bytes: only lines up to there are judged as above."""

    @classmethod
    def read(cls, run_dir: Path) -> Resumed | None:
        """None for a run that was never resumed."""
        path = run_dir / RESUMED_FILE
        return cls.model_validate(json.loads(path.read_text())) if path.exists() else None

    def write(self, run_dir: Path) -> None:
        """Rename it into place."""
        write_atomic(run_dir / RESUMED_FILE, self.model_dump_json())
