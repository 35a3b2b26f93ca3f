"""The handler of RFT jobs, as far as it needs no processes: what is left when a job is deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tunesmith.db import jobs
from tunesmith.db.api_keys import find_key, new_key
from tunesmith.db.policies import get_policy, put_policy
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.jobs.rft import RftHandler

from tests.jobs.conftest import ACCOUNT, working

NAME = f"{ACCOUNT}/reinforcementFineTuningJobs/gone"
POLICY = f"{ACCOUNT}/models/gone-v3"
PEPPER = b"p" * 32


async def test_a_job_that_is_deleted_after_its_worker_died_leaves_no_access_behind(settings, sessions) -> None:
    folder = settings.path("runs", "gone", "run.json").parent
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", {})
        assert jobs.claim(session, "dead worker", ["rft"], 0.0)
        _, key = new_key(session, ACCOUNT, {"kind": "rollout", "job": NAME}, "", None, PEPPER)
        put_policy(
            session,
            name=POLICY,
            account=ACCOUNT,
            job="gone",
            version=3,
            base_model="base",
            adapter_path=str(Path(folder, "adapters")),
            sha256="0" * 64,
            seed=0,
            sampling={},
        )
        jobs.request_delete(session, NAME)
    async with working(settings, sessions, [(RftHandler(), 1)]):
        while folder.exists() or _job(sessions) is not None:
            await asyncio.sleep(0.05)
    with reading(sessions) as session:
        assert find_key(session, key, PEPPER) is None
        policy = get_policy(session, POLICY)
        assert policy is not None
        assert policy.retired is not None


def _job(sessions) -> Job | None:
    with reading(sessions) as session:
        return session.get(Job, NAME)
