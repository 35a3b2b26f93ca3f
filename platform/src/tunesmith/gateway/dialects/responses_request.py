"""The body of an OpenAI Responses call."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Reasoning(BaseModel):
    """`reasoning`; a summary is not made, the model's own reasoning is returned."""

    model_config = ConfigDict(extra="forbid")

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class TextOptions(BaseModel):
    """`text`; nothing but plain text can be asked for."""

    model_config = ConfigDict(extra="forbid")

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesRequest(BaseModel):
    """`POST …/responses`. Fields that are null count as not sent; those not listed are checked as chat options."""

    model_config = ConfigDict(extra="allow")

    model: str
    input: str | list[Any] = []
    instructions: str | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = Field(None, ge=1)
    max_tool_calls: None = None
    top_logprobs: int = Field(0, ge=0, le=5)
    include: list[str] = []
    previous_response_id: str | None = None
    conversation: None = None
    prompt: None = None
    reasoning: Reasoning = Reasoning()
    text: TextOptions = TextOptions()
    metadata: dict[str, Any] = {}
    stream: bool = False
    stream_options: dict[str, Any] = {}
    background: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"
    store: bool = True

    @property
    def wants_logprobs(self) -> bool:
        """Whether output text carries log-probabilities."""
        return "message.output_text.logprobs" in self.include or self.top_logprobs > 0
