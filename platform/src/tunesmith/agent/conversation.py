"""What a session makes of an instruction or a message: the document as it is afterwards, and the lines of history that tell of it. Pure.

| pending | a message | leaves behind |
|---|---|---|
| nothing, before the approval | what it states | the plan changed, what was unclear in `unclear`; the handler goes on with that |
| gate `question` | an answer | plan and `unclear` changed, the gate `answered`; the handler asks again what is still open |
| gate `plan` | an approval | the gate `answered`, `approved_plan` = the plan |
| gate `plan` | a revision | the plan changed, the gate as it was; the session runs, and the handler prices and shows the plan under the next gate |
| gate `question` after the approval | whatever is not a question | the gate `answered`; the handler looks again |
| gate `promotion` | proceed, candidate n, stop | the gate `answered`, its `choice` None, n or 0 |

Questions are answered at once, and change nothing. Only an approval approves: not a question, not a negation, not an approval with a change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from tunesmith.agent.document import FINAL, Document, EventKind, Gate, GateKind, Question, State
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import Intent, Names, Reading, read_instruction, read_message
from tunesmith.agent.reading.restate import subject, subjects
from tunesmith.agent.replies import reply
from tunesmith.errors import FailedPrecondition, InvalidArgument

HOW_TO_PROMOTE = "Answer `Proceed with the winning config.`, `use candidate N` or `stop here`."
START_ANEW = "Cancel this session and create one with the plan that you want, or wait for the promotion gate."


@dataclass(frozen=True)
class Said:
    """A line for the history."""

    kind: EventKind
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """What one message did."""

    document: Document
    events: tuple[Said, ...]
    wake: bool
    """Whether the handler has something to do: the session runs again."""
    end: bool = False
    """The person rejected the plan: the session ends as cancelled, nothing was spent."""


def plan_of(raw: dict[str, Any]) -> Plan:
    """A plan that a client sent. Raises InvalidArgument naming each wrong field."""
    try:
        return Plan.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(
            f"plan.{'.'.join(str(part) for part in item['loc'])}: "
            + ("unknown field" if item["type"] == "extra_forbidden" else item["msg"])
            for item in error.errors()[:5]
        )
        raise InvalidArgument(f"The plan is not valid: {wrong}. GET sessionPlanSchema answers its schema.") from None


def begin(instruction: str, plan: Plan | None, names: Names, hints: Reading | None = None) -> Turn:
    """Start a session from an instruction, a plan, or both (the instruction revises the plan).

    `hints` is what a model read of the words that the reader did not understand (`agent.reading.model`).
    Raises InvalidArgument when both are empty.
    """
    if not instruction.strip() and plan is None:
        raise InvalidArgument("A session needs an instruction, a plan, or both.")
    document = Document(plan=plan or Plan())
    events: list[Said] = []
    if instruction.strip():
        events.append(Said(EventKind.USER_MESSAGE, instruction))
        reading = merge(read_instruction(instruction, names), hints)
        _take(document, reading)
        events += _tell(reading) + _answers(reading, document, State.RUNNING, names)
    else:
        events.append(Said(EventKind.STATUS_INFO, "Took the plan that was given."))
    document.message = "Inspecting the data."
    return Turn(document, tuple(events), wake=True)


def respond(
    document: Document, state: State, said: str | Plan, names: Names, hints: Reading | None = None, phase: str = ""
) -> Turn:
    """Take a message, or a plan that replaces the one before.

    Args:
        document: the session's, which is not changed.
        state: the session's.
        said: the words, or the plan.
        names: what the account and the catalogue have.
        hints: what a model read of the words that the reader did not understand.
        phase: where the session stands, for answers about its state.

    Returns:
        The turn; nothing is kept when this raises.

    Raises:
        FailedPrecondition: right words, wrong moment: the session has ended, there is no plan to approve yet, it was approved
            already, nothing is to be promoted, there is no such candidate.
        InvalidArgument: an empty message.
    """
    document = document.model_copy(deep=True)
    if state in FINAL:
        raise FailedPrecondition(f"The session has ended: it {_ended(state)}. Create a new session to go on.")
    if isinstance(said, Plan):
        return _replace(document, said)
    if not said.strip():
        raise InvalidArgument("The message is empty. Say what the session waits for, or ask it something.")
    gate = document.gate if state is State.WAITING and document.gate and not document.gate.answered else None
    reading = merge(read_message(said, names, gate, document.plan), hints)
    heard = [Said(EventKind.USER_MESSAGE, said)]
    answers = _answers(reading, document, state, names, phase)
    asked_later = gate is not None and gate.kind is GateKind.QUESTION and document.approved_plan is not None
    if asked_later and reading.intent not in (Intent.QUESTION, Intent.STOP):
        return _look_again(document, said, heard)
    match reading.intent:
        case Intent.APPROVE:
            return _approve(document, state, gate, said, heard)
        case Intent.CHOOSE:
            return _choose(document, gate, said, heard, reading.candidate or 0)
        case Intent.STOP:
            return _stop(document, gate, said, heard)
        case Intent.QUESTION:
            return Turn(document, (*heard, *answers), wake=False)
        case _:
            return _revise(document, gate, said, heard, answers, reading)


def merge(reading: Reading, hints: Reading | None) -> Reading:
    """What the reader read, completed by what a model read of the rest. The reader wins."""
    if hints is None:
        return reading
    fresh = {name: value for name, value in hints.changes.items() if name not in reading.changes}
    intent = reading.intent
    if fresh and intent in (Intent.UNCLEAR, Intent.APPROVE):
        intent = Intent.REVISE
    return Reading(
        intent=intent,
        changes={**reading.changes, **fresh},
        understood=(*reading.understood, *hints.understood),
        unclear=hints.unclear,
        contradictions=reading.contradictions,
        topics=reading.topics,
        candidate=reading.candidate,
        dismissed=reading.dismissed,
    )


def _replace(document: Document, plan: Plan) -> Turn:
    if document.approved_plan is not None:
        raise FailedPrecondition(f"The plan was approved and cannot be replaced any more. {START_ANEW}")
    document.plan, document.unclear, document.understood = plan, [], []
    if document.gate is not None and document.gate.kind is GateKind.QUESTION:
        document.gate.answered, document.gate.answer = True, "a plan"
    document.message = "Looking at the plan that was given."
    return Turn(document, (Said(EventKind.USER_MESSAGE, "Sent a plan that replaces the one before."),), wake=True)


def _approve(document: Document, state: State, gate: Gate | None, words: str, heard: list[Said]) -> Turn:
    if gate is not None and gate.kind is GateKind.PLAN:
        _answer_gate(document, words)
        document.approved_plan = document.plan.model_copy(deep=True)
        document.message = "The plan is approved; starting."
        return Turn(document, (*heard, Said(EventKind.STATUS_INFO, "The plan is approved.")), wake=True)
    if gate is not None and gate.kind is GateKind.PROMOTION:
        if not document.winner:
            raise FailedPrecondition(
                f"There is no winner to go on with: no candidate beat its base model. {HOW_TO_PROMOTE}"
            )
        _answer_gate(document, words)
        document.message = f"Going on with candidate {document.winner}."
        return Turn(document, (*heard, Said(EventKind.STATUS_INFO, document.message)), wake=True)
    if document.approved_plan is not None:
        done = document.gate is not None and document.gate.kind is GateKind.PROMOTION and document.gate.answered
        what = "The promotion was decided already" if done else "The plan was approved already"
        raise FailedPrecondition(f"{what}; nothing waits for an approval now. {_doing(document)}")
    if gate is not None:
        listed = " ".join(question.text for question in gate.questions) or gate.text
        raise FailedPrecondition(f"There is no plan to approve yet; these questions are open first: {listed}")
    del state
    raise FailedPrecondition(
        f"There is no plan to approve yet: it is still being made. {_doing(document)} "
        "Wait until it is shown (`tunesmith session events --wait`)."
    )


def _look_again(document: Document, words: str, heard: list[Said]) -> Turn:
    """After the approval something turned out to be missing, and was asked about: whatever is answered, it is looked for again."""
    _answer_gate(document, words)
    document.message = "Looking again."
    return Turn(document, tuple(heard), wake=True)


def _choose(document: Document, gate: Gate | None, words: str, heard: list[Said], number: int) -> Turn:
    if gate is None or gate.kind is not GateKind.PROMOTION:
        raise FailedPrecondition("No candidate can be chosen now: the session does not wait at the promotion gate.")
    able = [result.number for result in document.candidates if result.number and not result.failed]
    if number not in able:
        failed = next((result.failed for result in document.candidates if result.number == number), "")
        why = f"Candidate {number} has no model ({failed})" if failed else f"There is no candidate {number}"
        raise FailedPrecondition(f"{why}. Candidates to choose from: {', '.join(map(str, able)) or 'none'}.")
    _answer_gate(document, words)
    assert document.gate is not None
    document.gate.choice = number
    document.message = f"Going on with candidate {number}."
    return Turn(document, (*heard, Said(EventKind.STATUS_INFO, document.message)), wake=True)


def _stop(document: Document, gate: Gate | None, words: str, heard: list[Said]) -> Turn:
    if gate is not None and gate.kind is GateKind.PROMOTION:
        _answer_gate(document, words)
        assert document.gate is not None
        document.gate.choice = 0
        document.message = "Ending here; no candidate is promoted."
        return Turn(document, (*heard, Said(EventKind.STATUS_INFO, document.message)), wake=True)
    if document.approved_plan is not None:
        raise FailedPrecondition(
            "The approved plan is being carried out. `tunesmith session cancel` ends the session and its running jobs."
        )
    if document.gate is not None:
        _answer_gate(document, words)
    document.message = "Ended before the plan was approved; nothing was trained."
    return Turn(document, (*heard, Said(EventKind.RESULT, document.message)), wake=False, end=True)


def _revise(
    document: Document, gate: Gate | None, words: str, heard: list[Said], answers: Sequence[Said], reading: Reading
) -> Turn:
    if document.approved_plan is not None:
        if reading.changes or reading.contradictions:
            waits = gate is not None and gate.kind is GateKind.PROMOTION
            raise FailedPrecondition(
                f"The plan was approved and cannot be changed any more. {HOW_TO_PROMOTE if waits else START_ANEW}"
            )
        return Turn(document, (*heard, *answers, *_not_understood(reading, gate, document)), wake=False)
    if not reading.changes and not reading.dismissed and gate is not None:
        return Turn(document, (*heard, *answers, *_not_understood(reading, gate, document)), wake=False)
    _settle(document, gate, reading, words)
    _take(document, reading)
    if gate is not None and gate.kind is GateKind.QUESTION:
        _answer_gate(document, words)
    document.message = "Looking at the plan as it was changed."
    return Turn(document, (*heard, *_tell(reading), *answers), wake=True)


def _settle(document: Document, gate: Gate | None, reading: Reading, words: str) -> None:
    """Take away the questions that this message answers.

    A question about a field is answered by that field. One about words that were not understood is answered by saying to forget
    them, by saying something that no other question asked for (the same wish in other words), or by saying them again so that they
    are understood (`labels`: `use the dataset labels`).
    """
    asked = {question.field.split(".")[0] for question in gate.questions} if gate else set()
    asked |= {question.field.split(".")[0] for question in document.unclear}
    reworded = reading.dismissed or bool(set(reading.changes) - asked)
    document.unclear = [
        question
        for question in document.unclear
        if (
            not (reworded or _says_again(words, question))
            if question.field == "unclear"
            else question.field.split(".")[0] not in reading.changes
        )
    ]


def _says_again(words: str, question: Question) -> bool:
    quoted = re.match(r"I did not understand (['\"])(.+)\1\.", question.text)
    return quoted is not None and quoted.group(2).lower() in words.lower()


def _take(document: Document, reading: Reading) -> None:
    changed = subjects(document.plan, reading.changes)
    document.understood = [line for line in document.understood if subject(line) not in changed]
    document.understood += reading.understood
    document.plan = reading.apply(document.plan)
    document.unclear += [*reading.contradictions, *reading.unclear]


def _tell(reading: Reading) -> list[Said]:
    if not reading.understood:
        return []
    return [Said(EventKind.STATUS_INFO, "Understood: " + " ".join(reading.understood))]


def _answers(reading: Reading, document: Document, state: State, names: Names, phase: str = "") -> list[Said]:
    return [Said(EventKind.ANSWER, reply(topic, document, state, names, phase)) for topic in reading.topics]


def _not_understood(reading: Reading, gate: Gate | None, document: Document) -> list[Said]:
    questions: list[Question] = [*reading.contradictions, *reading.unclear]
    if questions:
        text = " ".join(question.text for question in questions)
    elif reading.topics:
        return []
    else:
        text = "I took nothing from that."
    if gate is None:
        return [Said(EventKind.ANSWER, f"{text} Nothing was changed. {_doing(document)}")]
    expects = {
        GateKind.PLAN: "The plan still waits: approve it (`Approved, proceed.`), or say what to change.",
        GateKind.PROMOTION: f"The promotion still waits. {HOW_TO_PROMOTE}",
        GateKind.QUESTION: gate.text,
    }
    return [Said(EventKind.ANSWER, f"{text} {expects[gate.kind]}")]


def _answer_gate(document: Document, words: str) -> None:
    assert document.gate is not None
    document.gate.answered, document.gate.answer = True, words


def _doing(document: Document) -> str:
    return f"Now: {document.message}" if document.message else "The session is at work."


def _ended(state: State) -> str:
    return {State.SUCCEEDED: "succeeded", State.FAILED: "failed"}.get(state, "was cancelled")
