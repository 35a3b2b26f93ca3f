"""What a deleted job takes with it: its own files, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunesmith.db import jobs
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext
from tunesmith.jobs.rft import RftHandler
from tunesmith.jobs.session import SessionHandler
from tunesmith.jobs.tuning import TuningHandler

from tests.jobs.conftest import ACCOUNT

HANDLERS = {
    "reinforcementFineTuningJobs": RftHandler(),
    "supervisedFineTuningJobs": TuningHandler("sft"),
    "sessions": SessionHandler(),
}


def claimed(settings, sessions, noun: str, identity: str) -> tuple[Handler, ClaimedJob, JobContext]:
    handler, name = HANDLERS[noun], f"{ACCOUNT}/{noun}/{identity}"
    with sessions.begin() as session:
        jobs.enqueue(session, name, ACCOUNT, handler.kind, {})
        row = jobs.claim(session, "w", [handler.kind], 30.0)
        assert row is not None
        job = ClaimedJob.of(row)
    return handler, job, JobContext(settings, sessions, job, "w")


@pytest.mark.parametrize("noun", ["reinforcementFineTuningJobs", "supervisedFineTuningJobs"])
async def test_a_job_takes_its_own_logs_and_not_those_of_a_longer_id(settings, sessions, noun: str) -> None:
    handler, job, context = claimed(settings, sessions, noun, "a")
    name = "trainer" if noun == "supervisedFineTuningJobs" else "learner"
    mine, other = context.log(name), settings.path("logs", f"a-b-{name}.log")
    for log in (mine, other):
        log.write_text("said")
    await handler.discard(job, context)
    assert (mine.exists(), other.exists()) == (False, True)


async def test_a_session_and_a_training_job_of_one_id_share_no_folder(settings, sessions) -> None:
    run: Path = settings.path("runs", "same", "data", "train.jsonl")
    run.parent.mkdir(parents=True, exist_ok=True)
    run.write_text("{}")
    handler, job, context = claimed(settings, sessions, "sessions", "same")
    mine = settings.path("sessions", "same", "data", "train.jsonl")
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("{}")
    context.log("measure").write_text("said")
    await handler.discard(job, context)
    assert run.exists()
    assert not mine.exists()
    assert not context.log("measure").exists()
