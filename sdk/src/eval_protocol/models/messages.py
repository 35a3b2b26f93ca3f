"""Chat messages in the OpenAI format, plus what evaluations add (reasoning text, environment steps, masks, log-probabilities)."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ROLES = ("system", "user", "assistant", "tool", "developer", "function")
"""Who may speak in a dataset. Not checked on a `Message` itself: what a model server answers is kept as it came."""
OPENAI_FIELDS = frozenset({"role", "content", "name", "tool_call_id", "tool_calls", "function_call"})


class ChatCompletionContentPartTextParam(BaseModel):
    """A piece of text."""

    text: str
    type: Literal["text"] = "text"


class ChatCompletionContentPartImageParam(BaseModel):
    """An image, by URL or data URL: `image_url = {"url": ...}`."""

    image_url: dict[str, Any]
    type: Literal["image_url"] = "image_url"


class ContentPart(BaseModel):
    """Any other part (audio, file, ...), kept as it came."""

    model_config = ConfigDict(extra="allow")

    type: str


ChatCompletionContentPartParam = ChatCompletionContentPartTextParam | ChatCompletionContentPartImageParam | ContentPart


class FunctionCall(BaseModel):
    """Name and JSON-encoded arguments of a call."""

    model_config = ConfigDict(extra="allow")

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    """One tool call of an assistant message; an id is made when the model sent none."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(default_factory=lambda: f"call_{os.urandom(8).hex()}")
    type: str = "function"
    function: FunctionCall


class Message(BaseModel):
    """One chat message."""

    model_config = ConfigDict(extra="allow")

    role: str
    """system, user, assistant, tool, ..."""
    content: str | list[ChatCompletionContentPartParam] | None = ""
    reasoning_content: str | None = None
    """The model's thinking, where its server separates it."""
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    control_plane_step: dict[str, Any] | None = None
    """Reward, termination and info of an environment step."""
    weight: int | None = None
    """Mask for supervised training: 0 leaves the message out of the loss."""
    logprobs: Any = None

    @property
    def text(self) -> str:
        """The content as plain text; parts that are not text are left out."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if isinstance(part, ChatCompletionContentPartTextParam))
        return self.content or ""

    def dump_model_for_chat_completion_request(self) -> dict[str, Any]:
        """Only what the OpenAI chat format knows, without nulls."""
        dumped = self.model_dump(mode="json", include=set(OPENAI_FIELDS), exclude_none=True)
        dumped.setdefault("content", None if self.tool_calls else "")
        return dumped

    dump_mdoel_for_chat_completion_request = dump_model_for_chat_completion_request
    """The published package's spelling."""
