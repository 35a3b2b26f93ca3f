"""A run directory is made ready to go on: where the platform is now, and, once for each time that its job was resumed, after a failure."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import write_atomic
from tunesmith.runs.resumed import Resumed


def take_up(run_dir: Path, resumed: float | None, gateway_url: str) -> None:
    """Undo what the end of the run left: its final state, and its keys, which are gone from the database.

    `resumed.json` is written last, so that doing it again after a crash does no harm, and doing it twice nothing. No process of the run
    may be running.

    Args:
        run_dir: of the job; nothing is done where nothing was begun.
        resumed: when the job was resumed (Unix seconds); None: never.
        gateway_url: where the platform is now: it may have moved while the job lay.
    """
    if not (run_dir / "run.json").exists():
        return
    _follow(run_dir, gateway_url)
    if resumed is None:
        return
    done = Resumed.read(run_dir)
    if done is not None and done.time >= resumed:
        return
    for kind in ("run", "rollout"):
        (run_dir / f"{kind}.key").unlink(missing_ok=True)
    status = run_dir / "status.json"
    if status.exists():
        write_atomic(status, json.dumps({**json.loads(status.read_text()), "state": "RUNNING", "message": ""}))
    rollouts = run_dir / "rollouts.jsonl"
    Resumed(time=resumed, rollouts=rollouts.stat().st_size if rollouts.exists() else 0).write(run_dir)


def _follow(run_dir: Path, gateway_url: str) -> None:
    """The platform may have been started on another port, or restored elsewhere, while the job lay."""
    config = RunConfig.read(run_dir)
    if config.gateway_url != gateway_url:
        moved = config.model_copy(update={"gateway_url": gateway_url})
        write_atomic(run_dir / "run.json", moved.model_dump_json(indent=1))
