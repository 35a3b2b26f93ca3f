"""The promotion gate: the scoreboard, the proposed winner with the reasons, and a person's choice."""

from __future__ import annotations

from tunesmith.agent.document import CandidateResult, Document, EventKind, GateKind, Phase
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.session import comparing
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.gates import ask
from tunesmith.jobs.session.training import describe

STOP = 0
"""The choice of no candidate."""


async def promote(desk: Desk) -> Phase:
    """Wait for the choice, unless the plan asks for none. Without a candidate the session goes to its report."""
    gate = desk.document.gate
    if gate is not None and gate.kind is GateKind.PROMOTION and gate.answered:
        chosen = gate.choice if gate.choice is not None else desk.document.winner or STOP
        return await _go_on(desk, chosen, by_hand=gate.choice is not None)
    if desk.plan.approvals.promotion:
        await ask(desk, GateKind.PROMOTION, gate_text(desk))
    text = f"{comparing.scoreboard_text(desk)}\n{desk.document.reason}\nThe plan asks for no approval here; going on."
    await desk.tell(Event("promotion/passed", EventKind.STATUS_INFO, text))
    return await _go_on(desk, desk.document.winner or STOP, by_hand=False)


def gate_text(desk: Desk) -> str:
    """What is asked: the scoreboard, the reasons, and what may be answered."""
    following = "it is trained on all the data" if desk.plan.final_run else "it goes on as it is"
    if desk.document.winner:
        question = (
            f"Shall candidate {desk.document.winner} be promoted ({following})? "
            "Reply `Proceed with the winning config.`, `use candidate N` for another one, or `stop here`."
        )
    else:
        question = (
            "I propose to stop: no candidate was shown to be better than its base model. "
            f"Reply `stop here`, or `use candidate N` to go on with one all the same ({following})."
        )
    return f"{question}\n\n{comparing.scoreboard_text(desk)}\n\n{desk.document.reason}"


def promoted(document: Document) -> CandidateResult:
    """The candidate that goes on. Raises FailedPrecondition where there is none."""
    found = next((result for result in document.candidates if result.number and result.number == document.winner), None)
    if found is None or found.candidate is None:
        raise FailedPrecondition("No candidate was promoted, so there is nothing to go on with.")
    return found


async def _go_on(desk: Desk, chosen: int, *, by_hand: bool) -> Phase:
    usable = {result.number: result for result in desk.document.candidates if result.number and not result.failed}
    if chosen != STOP and chosen not in usable:
        numbers = ", ".join(map(str, usable))
        await ask(
            desk,
            GateKind.PROMOTION,
            f"Candidate {chosen} cannot be promoted: it has no model.\n\n{gate_text(desk)}"
            if numbers
            else gate_text(desk),
        )
    proposed = desk.document.winner or STOP

    def edit(document: Document) -> None:
        document.winner = chosen
        if by_hand and chosen != proposed:
            document.reason += (
                f" A person chose {f'candidate {chosen}' if chosen else 'to stop'} at the promotion gate."
            )

    if chosen == STOP:
        text = "No candidate is promoted; the session ends with its report. The candidates' models stay."
        await desk.change(edit, Event("promotion/stop", EventKind.STATUS_INFO, text))
        return Phase.REPORT
    candidate = usable[chosen].candidate
    assert candidate is not None
    text = f"Candidate {chosen} is promoted: {describe(candidate)}."
    await desk.change(edit, Event("promotion/chosen", EventKind.STATUS_INFO, text))
    return Phase.FINAL_RUN
