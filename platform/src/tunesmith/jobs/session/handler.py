"""The handler of sessions. Level-triggered: it reads the document, goes on in the phase it is in, and writes what it found.

A session at a gate is put to rest: the job is PAUSED, no worker holds it, and a message wakes it. Killed at any instant in any phase, it
goes on from the document and from the children that are there under its derived ids.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

from sqlalchemy import delete
from sqlalchemy.orm import Session

from tunesmith.agent.document import EventKind, Phase, State
from tunesmith.db import jobs
from tunesmith.db import sessions as table
from tunesmith.db.tables import AgentSession, ApiKey
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.session import deployment, final_run, held_out, inspection, planning, promotion, reporting, sweep
from tunesmith.jobs.session.desk import KEY_FILE, Changed, Desk, Stopped, folder_of
from tunesmith.jobs.session.gates import Waiting
from tunesmith.jobs.session.measuring import MEASURE

Step = Callable[[Desk], Awaitable[Phase | None]]
"""Works a phase off; the next phase, or None after the last. Raises Waiting at a gate."""

STEPS: dict[Phase, Step] = {
    Phase.INSPECTION: inspection.inspect,
    Phase.PLAN: planning.plan,
    Phase.SWEEP: sweep.run_sweep,
    Phase.PROMOTION: promotion.promote,
    Phase.FINAL_RUN: final_run.run_final,
    Phase.EVALUATION: held_out.evaluate_held_out,
    Phase.DEPLOYMENT: deployment.deploy,
    Phase.REPORT: reporting.report,
}
_ENDS = {jobs.COMPLETED: State.SUCCEEDED, jobs.CANCELLED: State.CANCELLED}


class SessionHandler(Handler):
    """Handler of `session`."""

    kind = "session"

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Carry the session to its next gate, to its end, or to its cancellation."""
        try:
            async with Desk.open(job, context) as desk:
                return await _walk(desk)
        except Waiting:
            return Outcome(jobs.PAUSED, "Waiting for an answer.")
        except Stopped:
            await context.transaction(lambda session: _cancel_children(session, job.name))
            return Outcome(jobs.CANCELLED, "Cancelled on request. What its jobs made so far stays.", "CANCELLED")

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """With the job's state: the session's, a last line of its history, and the end of its key."""
        _end_access(session, job.name)
        _cancel_children(session, job.name)
        row = session.get(AgentSession, job.name)
        if row is None or row.state == State.CANCELLED:
            return  # deleted meanwhile, or cancelled by a person, whose history says so
        state = _ENDS.get(outcome.state, State.FAILED)
        document, revision = table.read(session, job.name)
        document.message = outcome.message
        if document.gate is not None and not document.gate.answered:
            document.gate = None  # nobody can answer it any more
        table.write(session, job.name, document, revision, state=state)
        if state is not State.SUCCEEDED:  # the report has the last word of a success
            kind = EventKind.ERROR if state is State.FAILED else EventKind.STATUS_INFO
            table.append_event(session, job.name, "end", kind, outcome.message, {"state": state.value})

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove the session's folder and key. Models, datasets and deployments stay."""

        def forget(session: Session) -> None:
            _cancel_children(session, job.name)
            _end_access(session, job.name)

        await context.transaction(forget)
        await asyncio.to_thread(shutil.rmtree, folder_of(job, context), ignore_errors=True)
        context.log(MEASURE).unlink(missing_ok=True)


async def _walk(desk: Desk) -> Outcome:
    while True:
        try:
            following = await STEPS[desk.phase](desk)
        except Changed:
            await desk.read()
            continue
        if following is None:
            await asyncio.to_thread(desk.file(KEY_FILE).unlink, missing_ok=True)
            return Outcome(jobs.COMPLETED, desk.document.message)
        await desk.change(lambda _: None, phase=following)


def _cancel_children(session: Session, name: str) -> None:
    for child in table.children(session, name):
        jobs.request_cancel(session, child)


def _end_access(session: Session, name: str) -> None:
    session.execute(delete(ApiKey).where(ApiKey.scope["session"].as_string() == name))
