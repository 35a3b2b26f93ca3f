"""Processes of a run that are killed: started again as long as the run moves on between, and no more often than a few times where it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tunesmith import launch
from tunesmith.errors import Internal
from tunesmith.jobs.rft_processes import MOST_RESTARTS, RunProcesses


def dies(argv: Any, *, name: str) -> launch.Process:
    """The learner is killed at once; the others stay."""
    program = "import os; os.kill(os.getpid(), 9)" if name == "learner" else "import time; time.sleep(600)"
    return launch.start([sys.executable, "-S", "-c", program], name=name)


async def no_host(version: int) -> Any:
    """An evaluator host that does nothing."""
    return Host(launch.start([sys.executable, "-S", "-c", "import time; time.sleep(600)"], name="evaluator host"))


class Host:
    def __init__(self, process: launch.Process) -> None:
        self.process = process


async def test_deaths_count_only_where_the_run_stands_still(tmp_path: Path) -> None:
    processes = RunProcesses(tmp_path, 1, no_host, dies)

    async def die(times: int, step: int) -> None:
        (tmp_path / "status.json").write_text(json.dumps({"state": "RUNNING", "step": step}))
        for _ in range(times):
            await processes.up()
            assert processes.learner is not None
            await processes.learner.wait()

    try:
        for step in range(3):
            await die(MOST_RESTARTS, step)
        with pytest.raises(Internal, match=f"The learner died {MOST_RESTARTS + 1} times at step 2"):
            await processes.up()
    finally:
        await processes.down()
