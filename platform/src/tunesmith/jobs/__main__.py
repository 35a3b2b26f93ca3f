"""`python -m tunesmith.jobs --data-dir D`: one worker. SIGTERM or Ctrl-C: give the jobs back and go."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from tunesmith.db.deployments import load_again
from tunesmith.db.session import open_database
from tunesmith.errors import TunesmithError
from tunesmith.jobs.handlers import handlers
from tunesmith.jobs.worker import Worker
from tunesmith.settings import Settings


async def work(settings: Settings) -> None:
    """Run a worker until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sessions = open_database(settings.path("tunesmith.db"))
    with sessions.begin() as session:
        load_again(session)
    await Worker(settings, sessions, handlers(settings)).run(stop)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.jobs", description="Run Tunesmith's jobs.")
    parser.add_argument(
        "--data-dir", help="the platform's data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data)"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        asyncio.run(work(Settings.load(data_dir=options.data_dir)))
    except TunesmithError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
