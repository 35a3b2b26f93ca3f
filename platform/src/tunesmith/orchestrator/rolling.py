"""Rolling out rows: ask the host, read back what the gateway recorded, append each finished rollout to the record.

Only missing attempts are asked for: those an earlier process recorded are reused, and those that the platform itself made fail
(a host or gateway that went away) are rolled again under a new attempt number, which is a new rollout id. No id is asked for twice,
not after a restart either: an agent elsewhere may still work for it. Whatever error an agent reports, a rollout that failed while the
gateway was restarted counts as made fail by it. No attempt begins before the gateway answers again.

Under a group deadline (`deadlines.py`) a group may go on without its stragglers: they are stopped at the host, recorded as such, and
whatever still comes of them is dropped. What was recorded is what counts, also for a process that takes the run up again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.errors import Unavailable
from tunesmith.evaluators.client import HostClient, is_try_of
from tunesmith.orchestrator.deadlines import GroupClocks, GroupDeadline, paced, stragglers
from tunesmith.orchestrator.gateway import Gateway
from tunesmith.orchestrator.gathering import batched, together
from tunesmith.orchestrator.groups import ScoredRollout
from tunesmith.orchestrator.record import Record
from tunesmith.orchestrator.samples import Calls, Completion, merge
from tunesmith.runs.rollout_rows import metrics_of

UNAVAILABLE = 14
"""Status code of a rollout whose model endpoint could not be reached (google.rpc.Code)."""
NO_ERROR = frozenset({None, 0, 100, 101, 102})
"""Status codes of a rollout that did not fail."""
RESTART_MARGIN_SECONDS = 1.0
"""Between the end of a rollout and the look at the gateway's uptime; counted as part of the rollout."""
MOST_ATTEMPTS = 4
"""A rollout that the platform made fail this often counts as failed. The waits for a host that is away are not counted."""
HOST_PATIENCE_SECONDS = 60.0
"""How long a host that went away is waited for."""
GATHER_SECONDS = 0.4
"""So long an ended rollout waits for others, to be read back and recorded with them: each reading is a request, and a commit of the gateway.
Under a group deadline none waits: it counts from when it is recorded."""
MOST_AT_ONCE = 32
"""Rollouts that are read back together."""


@dataclass(frozen=True)
class RolloutPlan:
    """What to roll out: each row `n` times with one policy version."""

    kind: Literal["train", "evaluation", "preflight", "baseline"]
    invocation_id: str
    prefix: str
    """Start of every rollout id of the plan; row, k and attempt follow."""
    rows: dict[int, dict[str, Any]]
    n: int
    version: int
    model: str
    completion_params: dict[str, Any]
    labels: dict[str, Any]
    """Fields that every record of the plan carries (chunk, step, epoch)."""
    deadline: GroupDeadline | None = None
    """When a row's group goes on without its stragglers; None: never."""

    def rollout_id(self, row_index: int, k: int, attempt: int) -> str:
        """Derived, never random: the sampling noise of a rollout depends on it."""
        return f"{self.prefix}-r{row_index}-k{k}-a{attempt}"


class Roller:
    """Carries out rollout plans."""

    def __init__(self, host: HostClient, gateway: Gateway, record: Record, max_concurrent: int) -> None:
        self._host = host
        self._gateway = gateway
        self._record = record
        self._max_concurrent = max_concurrent

    def use(self, host: HostClient) -> None:
        """Ask another evaluator host from the next plan on."""
        self._host = host

    async def passed_threshold(self) -> float | None:
        """The score from which the evaluator says that a rollout passes; None where it names none. A host that is away is waited for."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOST_PATIENCE_SECONDS
        while True:
            try:
                found = (await self._host.describe()).get("passed_threshold")
                return float(found) if isinstance(found, int | float) and found > 0 else None
            except Unavailable:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def roll(self, plan: RolloutPlan) -> list[ScoredRollout]:
        """Roll out a plan to its end and return one scored rollout per (row, k), with token sequences for training plans."""
        done: dict[tuple[int, int], ScoredRollout] = {}
        wanted = [(row, k) for row in plan.rows for k in range(plan.n)]
        attempt = self._record.last_asked(plan.invocation_id) + 1
        failures: Counter[tuple[int, int]] = Counter()
        clocks = GroupClocks(plan.deadline, plan.n)
        cut: set[tuple[int, int]] = set()
        recorded = self._record.recorded(plan.invocation_id)
        usable = [each for each in recorded if each["version"] == plan.version and not each["platform_failure"]]
        for records in batched(usable, MOST_AT_ONCE):
            for record, completions in zip(records, await self._completions(plan, records), strict=True):
                key = (record["row_index"], record["k"])
                done[key] = _scored(plan, record, completions)
                clocks.ended(key[0], valid=record["is_score_valid"])
        waiting_since: float | None = None
        loop = asyncio.get_running_loop()
        while missing := [key for key in wanted if key not in done]:
            self._record.asking(plan.invocation_id, attempt)
            try:
                async for scored in paced(self._ask(plan, missing, attempt, cut), clocks.seconds_left):
                    if scored is not None:
                        waiting_since = None
                        key = (scored.row_index, scored.k)
                        failures[key] += scored.platform_failure
                        if not scored.platform_failure or failures[key] >= MOST_ATTEMPTS:
                            done[key] = scored
                            clocks.ended(scored.row_index, valid=scored.is_score_valid)
                    late = stragglers(wanted, done, clocks.due())
                    cut.update(late)
                    for straggler in await self._leave(plan, late, attempt, clocks):
                        done[straggler.row_index, straggler.k] = straggler
                    if len(done) == len(wanted):
                        break
                if any(failures[key] for key in wanted if key not in done):
                    await (
                        self._gateway.uptime()
                    )  # one outage costs one attempt, however long: none begins before it is over
            except Unavailable:
                waiting_since = waiting_since or loop.time()
                if loop.time() - waiting_since > HOST_PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(0.5)
            attempt += 1
        return [done[key] for key in sorted(done)]

    async def _leave(
        self, plan: RolloutPlan, late: list[tuple[int, int]], attempt: int, clocks: GroupClocks
    ) -> list[ScoredRollout]:
        """Stop stragglers and record them: they have no score, and nothing that comes of them counts any more."""
        if not late or plan.deadline is None:
            return []
        await self._host.cancel(plan.rollout_id(row, k, attempt) for row, k in late)
        records = [
            {
                **_place(plan, row, k, attempt),
                "score": None,
                "is_score_valid": False,
                "reason": f"straggler: it had not ended {plan.deadline.seconds:g} s after half of its group had, "
                f"and {clocks.valid(row)} valid scores are enough (quorum {plan.deadline.quorum})",
                "platform_failure": False,
                "straggler": True,
                "time": round(time.time(), 3),
                "row": plan.rows[row],
            }
            for row, k in late
        ]
        left = []
        for part in batched(records, MOST_AT_ONCE):
            for record, completions in zip(part, await self._completions(plan, part), strict=True):
                self._record.rollout({**record, **vars(Calls.of(completions or []))})
                left.append(_scored(plan, record, completions))
        return left

    async def _ask(
        self, plan: RolloutPlan, missing: list[tuple[int, int]], attempt: int, cut: set[tuple[int, int]]
    ) -> AsyncGenerator[ScoredRollout, None]:
        """Ask for rollouts and record each as it ends, but for those that are in `cut` by then."""
        requests = [
            {
                "row_index": row,
                "k": k,
                "attempt": attempt,
                "rollout_id": plan.rollout_id(row, k, attempt),
                "row": plan.rows[row],
            }
            for row, k in missing
        ]
        asked = time.monotonic()
        answered = self._host.run(
            requests,
            invocation_id=plan.invocation_id,
            completion_params={**plan.completion_params, "model": plan.model},
            max_concurrent_rollouts=self._max_concurrent,
        )
        async with aclosing(
            together(answered, GATHER_SECONDS if plan.deadline is None else 0.0, len(requests), MOST_AT_ONCE)
        ) as gathered:
            async for events in gathered:
                records = [_record_of(plan, event) for event in events]
                for record in records:
                    if not record["is_score_valid"] and not record["platform_failure"]:
                        record["platform_failure"] = await self._cut_by_restart(record["row"], time.monotonic() - asked)
                for record, completions in zip(records, await self._completions(plan, records), strict=True):
                    if (record["row_index"], record["k"]) in cut:
                        continue  # it came after its group had gone on
                    calls = vars(Calls.of(completions)) if completions is not None else {}
                    self._record.rollout({**record, **calls})
                    yield _scored(plan, record, completions)

    async def _cut_by_restart(self, row: dict[str, Any], longest: float) -> bool:
        """Whether a rollout that ended just now failed, and the gateway started while it ran. It ran for `longest` seconds at most."""
        if _status_code(row) in NO_ERROR:
            return False
        seconds = (row.get("execution_metadata") or {}).get("rollout_duration_seconds")
        ran = min(longest, seconds if isinstance(seconds, int | float) else longest)
        return await self._gateway.uptime() < ran + RESTART_MARGIN_SECONDS

    async def _completions(self, plan: RolloutPlan, records: Sequence[dict[str, Any]]) -> list[list[Completion] | None]:
        """What was recorded under each of some rollouts, which take no more calls from now on; nothing is read of those that the platform
        made fail. None for an id that was never asked for."""
        ours = []
        for record in records:
            asked = plan.rollout_id(record["row_index"], record["k"], record["attempt"])
            ours.append(is_try_of(record["rollout_id"], asked))
        wanted = [
            record["rollout_id"]
            for record, ok in zip(records, ours, strict=True)
            if ok and not record["platform_failure"]
        ]
        found = await self._gateway.completions(list(dict.fromkeys(wanted)))
        return [
            [] if record["platform_failure"] else found[record["rollout_id"]] if ok else None
            for record, ok in zip(records, ours, strict=True)
        ]


def _scored(plan: RolloutPlan, record: dict[str, Any], completions: list[Completion] | None) -> ScoredRollout:
    trainable = plan.kind == "train" and record["is_score_valid"]
    return ScoredRollout(
        row_index=record["row_index"],
        k=record["k"],
        attempt=record["attempt"],
        rollout_id=record["rollout_id"],
        version=record["version"],
        score=record["score"],
        is_score_valid=record["is_score_valid"],
        reason=record["reason"],
        platform_failure=record["platform_failure"],
        straggler=record.get("straggler", False),
        sequences=merge(completions or [], plan.model) if trainable else [],
        calls=Calls.of(completions) if completions is not None else None,
        metrics=metrics_of(record["row"]),
    )


def _record_of(plan: RolloutPlan, event: dict[str, Any]) -> dict[str, Any]:
    score, valid, reason = event["score"], event["is_score_valid"], event["reason"]
    if valid and not (isinstance(score, int | float) and 0.0 <= score <= 1.0):
        valid, reason = False, f"score {score!r} is not a number in 0..1"
    return {
        **_place(plan, event["row_index"], event["k"], event["attempt"]),
        "rollout_id": event["rollout_id"],
        "score": score if valid else None,
        "is_score_valid": valid,
        "reason": reason or "",
        "platform_failure": not valid and _status_code(event["row"]) == UNAVAILABLE,
        "time": round(time.time(), 3),
        "row": event["row"],
    }


def _place(plan: RolloutPlan, row: int, k: int, attempt: int) -> dict[str, Any]:
    """What every record says of where in the run a rollout belongs."""
    return {
        "kind": plan.kind,
        "invocation_id": plan.invocation_id,
        **plan.labels,
        "row_index": row,
        "k": k,
        "attempt": attempt,
        "rollout_id": plan.rollout_id(row, k, attempt),
        "version": plan.version,
    }


def _status_code(row: dict[str, Any]) -> int | None:
    status = row.get("rollout_status")
    return status.get("code") if isinstance(status, dict) else None


def mean_score(rollouts: Iterable[ScoredRollout]) -> float | None:
    """Mean of the valid scores; None when there is none."""
    scores = [rollout.score for rollout in rollouts if rollout.is_score_valid and rollout.score is not None]
    return sum(scores) / len(scores) if scores else None
