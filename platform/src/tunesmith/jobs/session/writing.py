"""A generated evaluator, from what the inspection recognised; or the question where the data supports none."""

from __future__ import annotations

from tunesmith.agent import evaluator_source
from tunesmith.agent.document import Document, Question
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.plan import Plan


def write_evaluator(document: Document, plan: Plan) -> dict[str, str] | Question:
    """The files of the evaluator's project, by name."""
    assert plan.dataset is not None
    answers = Inspection.model_validate(document.inspection[plan.dataset]).answers
    return evaluator_source.write(answers) if answers.is_supported else evaluator_source.question(answers)
