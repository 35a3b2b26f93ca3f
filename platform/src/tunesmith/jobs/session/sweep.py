"""Phase 3: the candidates are trained, at most so many at a time, and compared on rows that none of them was trained on.

Datasets, jobs and evaluations carry ids that derive from the session's; what is there is not made again. One candidate that fails is left
out of the comparison; the session fails only when all of them did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith.agent.document import CandidateResult, Document, EventKind, Phase
from tunesmith.agent.plan import EvaluationPath
from tunesmith.errors import FailedPrecondition, TunesmithError
from tunesmith.jobs.session import children, comparing, delta, evaluators, staging, training
from tunesmith.jobs.session.decide import candidates
from tunesmith.jobs.session.desk import Desk, Event


async def run_sweep(desk: Desk) -> Phase:
    """Work the phase off."""
    await delta.make(desk)
    await staging.publish(desk)
    if desk.plan.evaluation.path is not EvaluationPath.VALIDATION_LOSS:
        await evaluators.ready(desk)
    await _train(desk)
    await comparing.compare(desk)
    return Phase.PROMOTION


async def _train(desk: Desk) -> None:
    """Start candidates as others end, and follow them until all have ended."""
    wanted = candidates(desk.plan)
    if not any(result.candidate is not None and result.number for result in desk.document.candidates):
        first = [CandidateResult(number=n, candidate=candidate) for n, candidate in enumerate(wanted, 1)]

        def begin(document: Document) -> None:
            document.candidates = first

        count = "1 candidate" if len(wanted) == 1 else f"{len(wanted)} candidates"
        text = f"Sweep: {count}, at most {desk.plan.parallel} at a time."
        await desk.change(begin, Event("sweep/begin", EventKind.STATUS_INFO, text))
    seen: dict[int, dict[str, Any]] = {}
    while True:
        results = [result for result in desk.document.candidates if result.number]
        open_ones = [result for result in results if not _has_ended(result)]
        if not open_ones:
            break
        for result in open_ones[: desk.plan.parallel]:
            await _look_at(desk, result, len(results), seen)
        ended = len(results) - len([each for each in desk.document.candidates if each.number and not _has_ended(each)])
        doing = ", ".join(f"candidate {n}: {children.progress(job)}" for n, job in sorted(seen.items()))
        await desk.say(f"Sweep: {ended} of {len(results)} candidates ended ({doing})" if doing else "Sweep: starting")
        if ended < len(results):
            await desk.rest(children.POLL_SECONDS)
    failed = [result for result in desk.document.candidates if result.number and result.failed]
    if len(failed) == len(wanted):
        reasons = "; ".join(f"candidate {result.number}: {result.failed}" for result in failed)
        all_of_them = f"All {len(wanted)} candidates" if len(wanted) > 1 else "The only candidate"
        raise FailedPrecondition(f"{all_of_them} failed. {reasons}")


def _has_ended(result: CandidateResult) -> bool:
    return bool(result.failed) or (result.run is not None and result.run.state in children.FINAL)


async def _look_at(desk: Desk, result: CandidateResult, of: int, seen: dict[int, dict[str, Any]]) -> None:
    """Start one candidate, or see how far it is, and write down what changed."""
    number, candidate = result.number, result.candidate
    assert candidate is not None
    identity = training.job_id(desk, f"c{number}")
    datasets = desk.document.datasets
    title = f"Candidate {number} of {of}"
    settings = f"{training.describe(candidate)} ({identity})"
    try:
        body = training.body(
            desk,
            desk.plan,
            candidate,
            output=identity,
            dataset=datasets[staging.TUNE],
            evaluation=datasets[staging.SELECT],
        )
        job = await children.job(desk, training.noun(desk.plan), identity, body)
    except TunesmithError as error:
        if error.status >= 500:
            raise
        reason = error.message

        def refused(it: CandidateResult) -> None:
            it.failed = reason

        await _record(desk, number, refused, _failed(number, of, reason))
        return
    events = [Event(f"c{number}/start", EventKind.STATUS_INFO, f"{title} started: {settings}.")]
    seen[number] = job
    run = await children.run_of(desk, job, desk.name("models", identity))
    if run.state in children.FINAL:
        seen.pop(number)
        if run.state == "JOB_STATE_COMPLETED":
            loss = (job.get("run") or {}).get("best_eval_loss")
            shown = f", evaluation loss {loss:.4f}" if loss is not None else ""
            events.append(Event(f"c{number}/end", EventKind.STATUS_INFO, f"{title} ended{shown}."))
        else:
            run.message = run.message or run.state.removeprefix("JOB_STATE_").lower()
            events.append(_failed(number, of, run.message))
    else:
        events += _evaluation_events(number, title, job)
    if result.run is None or result.run != run:

        def edit(it: CandidateResult) -> None:
            it.run = run
            if run.state in children.FINAL and run.state != "JOB_STATE_COMPLETED":
                it.failed = run.message

        await _record(desk, number, edit, *events)


def _evaluation_events(number: int, title: str, job: dict[str, Any]) -> list[Event]:
    """A line for each whole epoch whose evaluation is known."""
    status = job.get("run") or {}
    epoch, loss = int(status.get("epoch") or 0), status.get("eval_loss")
    if not epoch or loss is None:
        return []
    text = f"{title}, after {epoch} epoch{'s' if epoch > 1 else ''}: evaluation loss {loss:.4f}."
    return [Event(f"c{number}/epoch{epoch}", EventKind.STATUS_INFO, text)]


def _failed(number: int, of: int, reason: str) -> Event:
    text = f"Candidate {number} of {of} failed, and is left out: {reason}"
    return Event(f"c{number}/failed", EventKind.WARNING, text)


async def _record(desk: Desk, number: int, edit: Callable[[CandidateResult], None], *events: Event) -> None:
    def change(document: Document) -> None:
        edit(next(result for result in document.candidates if result.number == number))

    await desk.change(change, *events)
