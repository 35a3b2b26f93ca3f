"""`python -m tunesmith.orchestrator RUN_DIR`: the data side of one RFT run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from tunesmith.disk import NO_ROOM_EXIT, trouble
from tunesmith.errors import TunesmithError
from tunesmith.orchestrator.gateway import Gateway
from tunesmith.orchestrator.loop import Run
from tunesmith.orchestrator.record import Record, RunState
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import lock

KEY_VARIABLE = "TUNESMITH_RUN_KEY"


def main() -> int:
    """Run; exit code 0 when the run reached COMPLETED or EARLY_STOPPED, 74 when the disk is full and the run can go on later.

    SIGTERM ends the process by that signal.
    """
    parser = argparse.ArgumentParser(prog="python -m tunesmith.orchestrator", description=__doc__)
    parser.add_argument(
        "run_dir", type=Path, help="folder with run.json, and run.key or TUNESMITH_RUN_KEY in the environment"
    )
    run_dir = parser.parse_args().run_dir.resolve()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        held = lock(run_dir / "orchestrator.lock")
        config = RunConfig.read(run_dir)
        state = asyncio.run(_run(run_dir, config))
    except (TunesmithError, ValidationError, OSError) as error:
        full = trouble(error, run_dir)
        with contextlib.suppress(OSError):  # the log may lie on the same disk
            print(f"orchestrator: {full or error}", file=sys.stderr, flush=True)
        return NO_ROOM_EXIT if full else 1
    held.close()
    if state is RunState.RUNNING:
        # Stopped from outside. Whoever watches must see a signal, not an error of the run: an error would fail the job.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return 0 if state in (RunState.COMPLETED, RunState.EARLY_STOPPED) else 1


async def _run(run_dir: Path, config: RunConfig) -> RunState:
    with closing(Record(run_dir)) as record:
        try:
            async with Gateway(config.gateway_url, _run_key(run_dir)) as gateway:
                task = asyncio.create_task(Run(run_dir, config, gateway, record).train())
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
                return await task
        except asyncio.CancelledError:
            # Stopped from outside: the run stays RUNNING on disk, and the next start goes on from there.
            return RunState.RUNNING
        except TunesmithError as error:
            if trouble(error):
                raise  # the run stays RUNNING, and goes on when there is room
            record.update(state=RunState.FAILED, message=error.message)
            raise


def _run_key(run_dir: Path) -> str:
    file = run_dir / "run.key"
    return os.environ.get(KEY_VARIABLE) or (file.read_text().strip() if file.exists() else "")


if __name__ == "__main__":
    sys.exit(main())
