"""The handler of RFT jobs, as far as it needs no processes: what is left of a deleted job, what a resumed one shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tunesmith.db import jobs
from tunesmith.db.api_keys import find_key, new_key
from tunesmith.db.policies import get_policy, put_policy
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.jobs import rft
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.rft import RftHandler
from tunesmith.schemas.rft_spec import RftSpec

from tests.jobs.conftest import ACCOUNT, working

NAME = f"{ACCOUNT}/reinforcementFineTuningJobs/gone"
POLICY = f"{ACCOUNT}/models/gone-v3"
PEPPER = b"p" * 32
SPEC = RftSpec(
    base_model="base",
    dataset=f"{ACCOUNT}/datasets/d",
    example_count=3,
    evaluator=f"{ACCOUNT}/evaluators/e",
    evaluator_version=1,
    evaluator_dir="/built",
    output_model=f"{ACCOUNT}/models/m",
    epochs=1,
    learning_rate=1e-3,
    lora_rank=8,
    n=4,
    chunk_size=None,
    temperature=1.0,
    max_tokens=16,
    request={},
)


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


async def test_a_resumed_job_keeps_its_progress_until_the_run_says_otherwise(settings, sessions) -> None:
    stored = {"percent": 40, "epoch": 1, "run": {"step": 12, "total_steps": 30}, "processes": [{"name": "learner"}]}
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", SPEC.model_dump(mode="json"))
        jobs.set_progress(session, NAME, stored)
        claimed = jobs.claim(session, "worker", ["rft"], 30.0)
        assert claimed is not None
        job = ClaimedJob.of(claimed)
    claim = rft._Claim(job, JobContext(settings, sessions, job, "worker"))
    await claim.report("JOB_STATE_RUNNING")
    shown = _job(sessions)
    assert shown is not None
    assert shown.progress == {**stored, "processes": []}
    status = {"state": "RUNNING", "percent": 43, "epoch": 1, "step": 13, "total_steps": 30}
    (claim.run_dir / "status.json").write_text(json.dumps(status))
    await claim.report("JOB_STATE_RUNNING")
    shown = _job(sessions)
    assert shown is not None
    assert shown.progress == {"percent": 43, "epoch": 1, "run": status, "processes": []}


def _job(sessions) -> Job | None:
    with reading(sessions) as session:
        return session.get(Job, NAME)
