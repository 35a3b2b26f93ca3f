"""The client APIs that the gateway speaks: OpenAI chat completions, OpenAI Responses, Anthropic Messages."""

from tunesmith.gateway.dialects.anthropic_messages import Messages
from tunesmith.gateway.dialects.dialect import Dialect
from tunesmith.gateway.dialects.openai_chat import Chat
from tunesmith.gateway.dialects.openai_responses import Responses

__all__ = ["Chat", "Dialect", "Messages", "Responses"]
