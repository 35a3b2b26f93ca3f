"""A platform's database in a temporary folder, and workers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker
from tunesmith.db import jobs
from tunesmith.db.accounts import ensure_account
from tunesmith.db.session import open_database, reading
from tunesmith.db.tables import Job
from tunesmith.jobs import Handler
from tunesmith.jobs.worker import Worker
from tunesmith.settings import Settings

ACCOUNT = "accounts/local"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", lease_seconds=1.5, build_timeout_seconds=120, preflight_rows=0)


@pytest.fixture
def sessions(settings: Settings):
    maker = open_database(settings.path("tunesmith.db"))
    with maker.begin() as session:
        ensure_account(session, ACCOUNT)
    yield maker
    maker.kw["bind"].dispose()


@asynccontextmanager
async def working(settings: Settings, sessions: sessionmaker[Session], limits: Sequence[tuple[Handler, int]]):
    """A worker in this event loop; leaving stops it as SIGTERM would."""
    stop = asyncio.Event()
    worker = Worker(settings, sessions, limits)
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait_for(task, 120)


async def until(
    sessions: sessionmaker[Session], name: str, condition: Callable[[Job], bool], seconds: float = 120
) -> Job:
    """Wait for the job's row to satisfy a condition; the deadline only ends what hangs, on however loaded a machine."""

    async def poll() -> Job:
        while True:
            with reading(sessions) as session:
                job = session.get(Job, name)
                if job is not None and condition(job):
                    return job
            await asyncio.sleep(0.05)

    return await asyncio.wait_for(poll(), seconds)


async def final(sessions: sessionmaker[Session], name: str, seconds: float = 120) -> Job:
    """Wait for the job's end."""
    return await until(sessions, name, lambda job: job.state in jobs.FINAL_STATES, seconds)
