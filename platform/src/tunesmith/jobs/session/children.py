"""The children of a session: datasets, jobs and models, under ids that derive from the session's.

A child is looked for before it is asked for, so a session that was killed anywhere finds what it made and makes nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.agent.document import Run
from tunesmith.db import jobs
from tunesmith.db.tables import Job
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.session.desk import Desk, jsonl

FINAL = jobs.FINAL_STATES
POLL_SECONDS = 1.0
"""How often running children are looked at."""


async def dataset(desk: Desk, part: str, rows: Sequence[dict[str, Any]], *, adapted: bool, what: str) -> str:
    """The session's dataset `ds-{session}-{part}` with these rows, made and filled if need be; its resource name.

    Args:
        part: `train`, `tune`, `select`, `report`, `pairs`, `full`, ...
        adapted: whether the rows are Eval Protocol rows already, or an evaluator's adapter reads them.
        what: display name.
    """
    identity = f"ds-{desk.id}-{part}"
    there = await desk.api.find(f"datasets/{identity}")
    if there is None or there["state"] != "READY":
        spec: dict[str, Any] = {"displayName": what[:63], "exampleCount": str(len(rows))}
        if adapted:
            spec["evalProtocol"] = {}
        if there is None:
            await desk.api.post("datasets", {"datasetId": identity, "dataset": spec})
        await desk.api.upload_dataset(identity, jsonl(rows).encode())
    return desk.name("datasets", identity)


async def job(desk: Desk, noun: str, identity: str, body: dict[str, Any]) -> dict[str, Any]:
    """The job of that noun and id as it is now, created if need be.

    Raises the API's error where it refuses the body.
    """
    there = await desk.api.find(f"{noun}/{identity}")
    if there is not None:
        return there
    single = noun[0].lower() + noun[1:-1]
    return await desk.api.post(noun, body, **{f"{single}Id": identity})


async def ended(desk: Desk, noun: str, identity: str, body: dict[str, Any], doing: str) -> dict[str, Any]:
    """The job of that noun and id when it has ended, however it did; `doing` is said meanwhile."""
    found = await job(desk, noun, identity, body)
    while found["state"] not in FINAL:
        await desk.say(f"{doing} ({progress(found)})")
        await desk.rest(POLL_SECONDS)
        found = await desk.api.get(f"{noun}/{identity}")
    return found


def progress(found: dict[str, Any]) -> str:
    """How far a job is, in a few words."""
    if found["state"] in ("JOB_STATE_PENDING", "JOB_STATE_CREATING"):
        return "waiting for a free worker"
    percent = (found.get("jobProgress") or {}).get("percent") or 0
    return f"{percent} %" if percent else found["state"].removeprefix("JOB_STATE_").lower()


async def run_of(desk: Desk, found: dict[str, Any], model: str | None) -> Run:
    """A training job as the document keeps it."""
    row = await desk.context.query(lambda session: session.get(Job, found["name"]))
    took = row.completed - row.started if row is not None and row.completed and row.started else None
    status = found.get("run") or {}
    completed = found["state"] == jobs.COMPLETED
    return Run(
        job=found["name"],
        state=found["state"],
        message=(found.get("status") or {}).get("message") or "",
        model=model if completed else None,
        seconds=round(took, 1) if took is not None else None,
        tokens=status.get("trained_tokens"),
    )


def completed(found: dict[str, Any], what: str) -> dict[str, Any]:
    """The same job, which must have COMPLETED. Raises FailedPrecondition with its reason."""
    if found["state"] != jobs.COMPLETED:
        reason = (found.get("status") or {}).get("message") or "it gave no reason"
        state = found["state"].removeprefix("JOB_STATE_").lower()
        raise FailedPrecondition(f"{what} ({found['name']}) {state}: {reason}")
    return found
