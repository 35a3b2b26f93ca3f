"""What the rules collect while they read: wishes by field, each with the words that said it, until they are settled into one reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tunesmith.agent.document import Question
from tunesmith.agent.plan import GridPoint
from tunesmith.agent.reading.items import Match


class Op(StrEnum):
    """What is done with a value of a list."""

    SET = "set"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True)
class Wish:
    """One value that was stated for one field."""

    field: str
    value: Any
    words: str
    op: Op = Op.SET
    firm: bool = False
    """Said with `only`, `instead` or the like: nothing besides it."""


@dataclass
class Draft:
    """Everything read so far."""

    message: bool = False
    """Whether this revises a plan that is there."""
    wishes: list[Wish] = field(default_factory=list)
    epochs: float | None = None
    """Of the plan that is there."""
    points: list[tuple[GridPoint, str]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def wish(self, name: str, value: Any, match: Match, op: Op = Op.SET, *, firm: bool = False) -> None:
        """Note a wish, and that its words were understood."""
        match.use()
        self.wishes.append(Wish(name, value, match.words, op, firm))

    def ask(self, name: str, text: str, match: Match, choices: list[str] | None = None) -> None:
        """Note that something has to be asked, and that its words were seen."""
        match.use()
        if not any(question.field == name and question.text == text for question in self.questions):
            self.questions.append(Question(field=name, text=text, choices=choices or []))

    def stated(self, name: str) -> list[Wish]:
        """The wishes for a field."""
        return [wish for wish in self.wishes if wish.field == name]
