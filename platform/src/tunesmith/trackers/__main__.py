"""`python -m tunesmith.trackers RUN_DIR`: follow a run into W&B and MLflow until it has ended. Settings: `trackers.json` in it.

`{"job": resource name, "mlflow": URI or null, "wandb": {"project", "entity", "run_id"} or null, "params": {...}}`. Exits 0 when all points of an
ended run are sent, 1 when a tracker could not be reached for ten minutes. It never writes to the run's own files.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Protocol

from tunesmith.errors import TunesmithError, Unavailable
from tunesmith.trackers.mlflow import MlflowTracker
from tunesmith.trackers.points import Point, Points
from tunesmith.trackers.wandb import WandbTracker

log = logging.getLogger("tunesmith.trackers")

POLL_SECONDS = 2.0
GIVE_UP_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 60.0
FINAL_STATES = {"COMPLETED", "FAILED", "CANCELLED", "EARLY_STOPPED"}


class Tracker(Protocol):
    """A receiver of points. Each raises Unavailable when it cannot be reached."""

    def start(self) -> None: ...

    def log(self, point: Point) -> None: ...

    def finish(self, state: str) -> None: ...


def follow(run_dir: Path, tracker: Tracker) -> None:
    """Send a run's points until it has ended. Raises Unavailable after ten minutes without an answer."""
    answered, pause = time.monotonic(), POLL_SECONDS
    while True:
        try:
            tracker.start()
            answered, pause = time.monotonic(), POLL_SECONDS
            points = Points(run_dir)  # from the beginning: the tracker knows what it has
            while True:
                state = _state(run_dir)  # first: what is written before a final state is read after it
                for point in points.new():
                    tracker.log(point)
                if state in FINAL_STATES:
                    return tracker.finish(state)
                time.sleep(POLL_SECONDS)
                answered = time.monotonic()
        except Unavailable as error:
            if time.monotonic() - answered > GIVE_UP_SECONDS:
                raise
            log.warning("%s Trying again in %d s.", error.message, pause)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def main() -> int:
    """Follow the run into each tracker of `trackers.json`."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.trackers", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--only", choices=("mlflow", "wandb"), required=True, help="one tracker a process")
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        config = json.loads((given.run_dir / "trackers.json").read_text())
        if given.only == "mlflow":
            tracker: Tracker = MlflowTracker(config["mlflow"], config["job"], config["params"])
        else:
            tracker = WandbTracker(given.run_dir, config["job"], config["wandb"], config["params"])
        follow(given.run_dir, tracker)
    except (TunesmithError, OSError, ValueError, KeyError) as error:
        log.error("%s", error.message if isinstance(error, TunesmithError) else error)
        return 1
    return 0


def _state(run_dir: Path) -> str:
    try:
        return json.loads((run_dir / "status.json").read_text()).get("state", "")
    except (OSError, ValueError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
