"""What upstreams answered, read for the record: one implementation per dialect."""

from tunesmith.gateway.answers.answer import Answer, PassedCandidate, UpstreamFailed
from tunesmith.gateway.answers.anthropic_messages import MessagesAnswer
from tunesmith.gateway.answers.openai_chat import ChatAnswer
from tunesmith.gateway.answers.openai_responses import ResponsesAnswer
from tunesmith.gateway.answers.usage import bounded, counted_usage

ANSWERS: dict[str, type[Answer]] = {
    "/chat/completions": ChatAnswer,
    "/responses": ResponsesAnswer,
    "/messages": MessagesAnswer,
}
"""By the path of the call."""

__all__ = ["ANSWERS", "Answer", "PassedCandidate", "UpstreamFailed", "bounded", "counted_usage"]
