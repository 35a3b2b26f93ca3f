"""Where a session asks: a gate is written into the document, the job is put to rest, and an answer wakes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from tunesmith.agent.document import Document, EventKind, Gate, GateKind, Question, State
from tunesmith.agent.plan import Plan
from tunesmith.jobs.session.desk import Desk, Event


class Waiting(Exception):
    """The session is at a gate: nothing goes on before somebody answers."""


async def ask(
    desk: Desk, kind: GateKind, text: str, *, questions: Sequence[Question] = (), on_plan: Plan | None = None
) -> NoReturn:
    """Put up a gate, unless the very same one is up already, and wait. Raises Waiting; Changed when `on_plan` was revised."""

    def edit(document: Document) -> Sequence[Event]:
        there = document.gate
        document.message = text.splitlines()[0]
        if there is not None and not there.answered and (there.kind, there.text) == (kind, text):
            return ()
        gate = Gate(id=(there.id if there else 0) + 1, kind=kind, text=text, questions=list(questions))
        document.gate = gate
        return [Event(f"gate/{gate.id}", EventKind.ASK_USER, text, gate.dump())]

    await desk.change(edit, state=State.WAITING, on_plan=on_plan)
    raise Waiting


async def ask_all(desk: Desk, questions: Sequence[Question], *, on_plan: Plan | None = None) -> NoReturn:
    """Ask several things at once."""
    asked = [question.text for question in questions]
    text = asked[0] if len(asked) == 1 else "\n".join(f"{n}. {line}" for n, line in enumerate(asked, 1))
    await ask(desk, GateKind.QUESTION, text, questions=questions, on_plan=on_plan)
