"""What reading gives: the fields of the plan that were stated, restated in sentences, and everything that has to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tunesmith.agent.document import Question
from tunesmith.agent.plan import Plan


class Intent(StrEnum):
    """What a person wants with an instruction or a message."""

    START = "start"
    APPROVE = "approve"
    """Go on as proposed: with the plan, or with the winner."""
    CHOOSE = "choose"
    """Go on with the candidate of a number."""
    STOP = "stop"
    REVISE = "revise"
    ANSWER = "answer"
    QUESTION = "question"
    """Ask something; nothing changes."""
    UNCLEAR = "unclear"
    """Nothing was understood."""


class Topic(StrEnum):
    """What a person asks about."""

    BASE_MODELS = "base_models"
    DATASETS = "datasets"
    EVALUATORS = "evaluators"
    EVALUATOR = "evaluator"
    """The one that the Agent wrote for this session."""
    DATA = "data"
    """What was found in the dataset."""
    COST = "cost"
    STATUS = "status"
    PLAN = "plan"
    SCOREBOARD = "scoreboard"
    GRID = "grid"
    EPOCHS = "epochs"
    EVALUATION = "evaluation"
    METHODS = "methods"
    LORA = "lora"
    GATES = "gates"
    HELP = "help"


@dataclass(frozen=True)
class Reading:
    """One instruction or message, read."""

    intent: Intent
    changes: dict[str, Any] = field(default_factory=dict)
    """Field of Plan -> its new value, whole (a grid, all base models), only where it was stated."""
    understood: tuple[str, ...] = ()
    """One restating sentence per thing understood."""
    unclear: tuple[Question, ...] = ()
    """Words that no rule understood, each as a question that quotes them."""
    left: tuple[str, ...] = ()
    """The person's words of each question in `unclear`."""
    contradictions: tuple[Question, ...] = ()
    """Wishes that exclude each other, or that may mean two things, each as a question."""
    topics: tuple[Topic, ...] = ()
    """What was asked."""
    candidate: int | None = None
    """Intent `choose`: number of the candidate, from 1."""
    dismissed: bool = False
    """Whether the person said to forget what was not understood."""

    @property
    def asks(self) -> bool:
        """Whether something has to be asked back."""
        return bool(self.unclear or self.contradictions)

    def apply(self, plan: Plan) -> Plan:
        """The plan with what was stated in it."""
        return plan.model_copy(update=self.changes, deep=True)
