"""What upstreams answered to calls that were passed on to them: kept as the bytes that came, read when somebody asks for a record.

Passing an answer on costs little; reading 2,000 events of it costs as much as everything else together, and most are never looked at.
"""

from __future__ import annotations

from tunesmith.db.answers.answer import Answer, PassedCandidate
from tunesmith.db.answers.anthropic_messages import MessagesAnswer
from tunesmith.db.answers.files import AnswerFiles, AnswerLost, KeptAnswer, RawAnswer
from tunesmith.db.answers.openai_chat import ChatAnswer
from tunesmith.db.answers.openai_responses import ResponsesAnswer
from tunesmith.db.answers.usage import bounded, counted_usage, given_usage

__all__ = [
    "ANSWERS",
    "Answer",
    "AnswerFiles",
    "AnswerLost",
    "KeptAnswer",
    "PassedCandidate",
    "RawAnswer",
    "bounded",
    "counted_usage",
    "given_usage",
    "read_answer",
]

ANSWERS: dict[str, type[Answer]] = {"chat": ChatAnswer, "responses": ResponsesAnswer, "messages": MessagesAnswer}
"""By dialect."""


def read_answer(dialect: str, streamed: bool, raw: bytes) -> Answer:
    """Read what came, as far as it can be read; `unreadable` of the answer says where it could not."""
    answer = ANSWERS[dialect]()
    (answer.read_events if streamed else answer.read_whole)(raw)
    return answer
