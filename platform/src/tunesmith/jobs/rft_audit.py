"""A second opinion on an RFT job: another evaluator scores rollouts that the first one has scored, and nothing is trained on it.

Its host runs beside the job and is asked for answers as they are (`score`). What is audited is fixed by what has ended: every held-out
rollout, or without held-out rows some training rollouts of each step. Results are appended to `audit.jsonl`; only what is missing there
is asked for, so a restart costs nothing. A host that fails ends the audit with a line that says so, never the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.rollouts import list_events
from tunesmith.db.tables import Rollout
from tunesmith.errors import TunesmithError, Unavailable
from tunesmith.evaluators.client import HostClient
from tunesmith.evaluators.hosts import EvaluatorHost
from tunesmith.jobs.handler import JobContext
from tunesmith.jobs.ingest import AUDIT_FILE
from tunesmith.runs.files import JsonLines, read_json_lines

ROLLOUTS_A_STEP = 16
"""Training rollouts of a step that are audited where there are no held-out rows: the first candidate of so many rows."""
ROWS_AT_ONCE = 64
HOST_LOSSES = 3
"""A host that goes away this often without a result between is given up."""
Target = tuple[str, dict[str, Any], dict[str, Any]]
"""Rollout id, what its line says of it, its row."""


class Auditor:
    """The audit of one job. `look` is called again and again; it begins what is missing and does not wait."""

    def __init__(
        self,
        context: JobContext,
        job: str,
        run_dir: Path,
        socket: Path,
        start: Callable[[], Awaitable[EvaluatorHost]],
        concurrency: int,
    ) -> None:
        self._context, self._job, self._run_dir = context, job, run_dir
        self._socket, self._start, self._concurrency = socket, start, concurrency
        self._host: EvaluatorHost | None = None
        self._work: asyncio.Task[None] | None = None
        self._done = {line["rollout_id"] for _, line in read_json_lines(run_dir / AUDIT_FILE)}
        self._seen = -1
        """Ended chunks and evaluations when the last look found nothing missing."""
        self._given_up = False

    def look(self) -> None:
        """Audit what has ended since, beside everything else."""
        if not self._given_up and (self._work is None or self._work.done()):
            self._work = asyncio.create_task(self._audit())

    async def finish(self) -> None:
        """Audit the rest of a run that has ended."""
        if self._work is not None:
            await self._work
        self._seen = (
            -1
        )  # a chunk's event may have been taken in before the last of its rollouts: look at everything again
        if not self._given_up:
            await self._audit()

    async def stop(self) -> None:
        """Let go of the host; what is being audited is audited by the next claim."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if self._host is not None:
            await self._host.stop()
            self._host = None

    async def _audit(self) -> None:
        ended, targets = await self._context.query(self._missing)
        losses = 0
        while targets and not self._given_up:
            part, before = targets[:ROWS_AT_ONCE], len(self._done)
            try:
                await self._ask(part)
            except Unavailable as error:
                losses = losses + 1 if len(self._done) == before else 0
                if losses >= HOST_LOSSES:
                    self._give_up(error)
                await asyncio.sleep(0.2)
            except TunesmithError as error:
                self._give_up(error)
            targets = [target for target in targets if target[0] not in self._done]
        self._seen = ended

    async def _ask(self, targets: list[Target]) -> None:
        if self._host is None or not self._host.process.running:
            self._host = await self._start()
        about = {target[0]: target[1] for target in targets}
        attempts = [
            {"row_index": index, "k": 0, "attempt": 0, "rollout_id": f"{rollout_id}-audit", "row": row}
            for index, (rollout_id, _, row) in enumerate(targets)
        ]
        ids = [target[0] for target in targets]
        async for event in HostClient(self._socket).run(
            attempts,
            invocation_id=f"{self._job.rsplit('/', 1)[-1]}-audit",
            completion_params={},
            max_concurrent_rollouts=self._concurrency,
            answers="score",
        ):
            rollout_id, score = ids[event["row_index"]], event["score"]
            valid = event["is_score_valid"] and isinstance(score, int | float) and 0.0 <= score <= 1.0
            self._append(
                {
                    "kind": "audit",
                    "rollout_id": rollout_id,
                    **about[rollout_id],
                    "audit_score": float(score) if valid else None,
                    "reason": event["reason"] or "",
                }
            )
            self._done.add(rollout_id)

    def _give_up(self, error: TunesmithError) -> None:
        self._given_up = True
        self._append({"kind": "audit_failed", "rollout_id": "", "reason": error.message})

    def _append(self, line: dict[str, Any]) -> None:
        lines = JsonLines(self._run_dir / AUDIT_FILE)
        lines.append(line)
        lines.close()

    def _missing(self, session: Session) -> tuple[int, list[Target]]:
        """How many chunks and evaluations have ended, and what of them is not audited yet."""
        events = [event.record for event in list_events(session, self._job, "events.jsonl")]
        versions = {event["version"] for event in events if event.get("kind") == "evaluation"}
        steps = {event["step"] for event in events if event.get("kind") == "chunk"}
        ended = len(versions) + len(steps)
        if ended == self._seen:
            return ended, []
        valid = (Rollout.job == self._job, Rollout.is_score_valid.is_(True), Rollout.score.is_not(None))
        if versions:
            chosen = select(Rollout).where(*valid, Rollout.kind == "evaluation", Rollout.step.in_(versions))
        else:
            chosen = select(Rollout).where(*valid, Rollout.kind == "train", Rollout.k == 0, Rollout.step.in_(steps))
        counted: dict[int, int] = {}
        targets: list[Target] = []
        for rollout in session.scalars(chosen.order_by(Rollout.step, Rollout.row_index)):
            counted[rollout.step] = counted.get(rollout.step, 0) + 1
            if rollout.kind == "train" and counted[rollout.step] > ROLLOUTS_A_STEP:
                continue
            if rollout.rollout_id not in self._done:
                targets.append((rollout.rollout_id, _about(rollout), _unscored(rollout.row)))
        return ended, targets


def _about(rollout: Rollout) -> dict[str, Any]:
    return {
        "of": rollout.kind,
        "step": rollout.step,
        "version": rollout.version,
        "row_index": rollout.row_index,
        "score": rollout.score,
    }


def _unscored(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what the first evaluator made of it: the second one judges the answer alone."""
    return {name: value for name, value in row.items() if name != "evaluation_result"}
