"""The handler of RFT jobs, as far as it needs no processes: what is left of a deleted job, what a resumed one shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tunesmith.catalog import resolve
from tunesmith.db import jobs
from tunesmith.db.api_keys import find_key, new_key
from tunesmith.db.policies import get_policy, put_policy
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.jobs import rft
from tunesmith.jobs.handler import ClaimedJob, JobContext, Outcome
from tunesmith.jobs.rft import RftHandler
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.settings import Settings

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
    await claim.progress.report("JOB_STATE_RUNNING")
    shown = _job(sessions)
    assert shown is not None
    assert shown.progress == {**stored, "processes": []}
    status = {"state": "RUNNING", "percent": 43, "epoch": 1, "step": 13, "total_steps": 30}
    (claim.run_dir / "status.json").write_text(json.dumps(status))
    await claim.progress.report("JOB_STATE_RUNNING")
    shown = _job(sessions)
    assert shown is not None
    run = {**status, "sampled_tokens": 0, "trained_tokens": 0, "seconds": shown.progress["run"]["seconds"]}
    assert shown.progress == {"percent": 43, "epoch": 1, "run": run, "processes": []}


@pytest.mark.parametrize("state", sorted(jobs.FINAL_STATES))
def test_the_keys_of_a_job_end_with_it_whatever_its_end(sessions, state: str) -> None:
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", SPEC.model_dump(mode="json"))
        made = [new_key(session, ACCOUNT, {"kind": k, "job": NAME}, "", None, PEPPER)[1] for k in ("run", "rollout")]
        _, account_key = new_key(session, ACCOUNT, {"kind": "account"}, "", None, PEPPER)
        claimed = jobs.claim(session, "worker", ["rft"], 30.0)
        assert claimed is not None
        RftHandler().settle(session, ClaimedJob.of(claimed), Outcome(state))
    with reading(sessions) as session:
        assert [find_key(session, key, PEPPER) for key in made] == [None, None]
        assert find_key(session, account_key, PEPPER) is not None


@pytest.mark.parametrize("given", [None, 5000])
async def test_the_rollout_key_has_the_jobs_budget(settings: Settings, sessions, given: int | None) -> None:
    settings = settings.model_copy(update={"rollout_key_budget_tokens": given})
    spec = SPEC.model_copy(update={"base_model": "accounts/tunesmith/models/tiny-math-v1", "epochs": 2})
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", spec.model_dump(mode="json"))
        claimed = jobs.claim(session, "worker", ["rft"], 30.0)
        assert claimed is not None
        job = ClaimedJob.of(claimed)
    claim = rft._Claim(job, JobContext(settings, sessions, job, "worker"))
    keys = {kind: await claim.key(kind) for kind in ("run", "rollout")}
    assert await claim.key("rollout") == keys["rollout"]
    with reading(sessions) as session:
        rows = {kind: find_key(session, key, claim.keys.pepper) for kind, key in keys.items()}
    context = json.loads(
        (resolve(spec.base_model, models_dir=settings.path("models")).path / "config.json").read_text()
    )["max_position_embeddings"]
    assert rows["run"] is not None
    assert rows["run"].scope == {"kind": "run", "job": NAME}
    assert rows["rollout"] is not None
    assert rows["rollout"].scope["budget"] == (given or 64 * context * (3 * 2 * 4 + 1000))
    assert (claim.run_dir / "rollout.key").stat().st_mode & 0o777 == 0o600


def _job(sessions) -> Job | None:
    with reading(sessions) as session:
        return session.get(Job, NAME)
