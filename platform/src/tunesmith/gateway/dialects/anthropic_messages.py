"""Anthropic Messages (`POST …/messages`): the call in chat form, its whole answer, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunesmith.gateway.calls import Call
from tunesmith.gateway.dialects.dialect import Recall
from tunesmith.gateway.dialects.messages_output import MessageObject
from tunesmith.gateway.dialects.messages_request import MessagesRequest, chat_messages, chat_tool
from tunesmith.gateway.dialects.messages_stream import MessagesWriter, error_object
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.requests import ParsedChat, parse_chat, validated
from tunesmith.gateway.streaming import Writer

_RENAMED = {"stop": "stop_sequences", "reasoning_effort": "output_config"}
"""Options of the chat form by the names they have here, for errors."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "container": (),
    "context_management": ({},),
    "mcp_servers": ([],),
    "speed": ("standard",),
}
"""Options that would need what is not here: only the values given here are accepted."""
_INERT = frozenset(
    ["cache_control", "diagnostics", "inference_geo", "metadata", "service_tier", "user_profile_id", "workspace_id"]
)
"""Options without any effect on what is sampled."""
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}


class Messages:
    """One call of the Messages API."""

    name: ClassVar[str] = "messages"
    error = staticmethod(error_object)

    async def read(self, body: Any, recall: Recall) -> ParsedChat:
        """The call in chat form. Raises BadRequest."""
        if not isinstance(body, dict):
            raise BadRequest("The body is not a JSON object.")
        body = {key: value for key, value in body.items() if value is not None}
        request = validated(MessagesRequest, body)
        extra = request.model_extra or {}
        _check_extra(extra)
        chat: dict[str, Any] = {
            "model": request.model,
            "messages": chat_messages(request),
            "max_tokens": request.max_tokens,
        }
        chat.update(
            {name: body[name] for name in ("stream", "temperature", "top_p", "top_k", "metadata") if name in body}
        )
        if request.stop_sequences:
            chat["stop"] = request.stop_sequences
        if request.tools:
            chat["tools"] = [chat_tool(tool) for tool in request.tools]
            chat.update(_tool_choice(request.tool_choice))
        switches, ignored = _reasoning(request)
        chat.update(switches)
        try:
            parsed = parse_chat(chat)
        except BadRequest as error:
            param = _RENAMED.get(error.param or "", error.param)
            raise BadRequest(error.message.replace(error.param or "", param or ""), param, error.reason) from error
        return ParsedChat(parsed.chat, parsed.body, self.name, "msg_", {"ignored": ignored} if ignored else {})

    def whole(self, call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """The `message` object."""
        return MessageObject(call).ended(candidates[0])

    def writer(self, call: Call, candidates: Sequence[Candidate]) -> Writer:
        """Writes the events of a streamed message."""
        return MessagesWriter(MessageObject(call), candidates)


def _check_extra(extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if name in _INERT:
            continue
        if name not in _NEUTRAL:
            raise BadRequest(f"{name} is not an option of this call; remove it.", name, "unknown_parameter")
        if value not in _NEUTRAL[name]:
            raise BadRequest(f"{name} is not supported here; remove it.", name, "unsupported_parameter")


def _tool_choice(choice: dict[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    kind = choice.get("type")
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise BadRequest(f"tool_choice.type {str(kind)[:80]!r} is none of auto, none, any and tool.", "tool_choice")
    if choice.get("disable_parallel_tool_use") is True:
        chat["parallel_tool_calls"] = False
    return chat


def _reasoning(request: MessagesRequest) -> tuple[dict[str, Any], list[str]]:
    """The reasoning switch in chat form, and what of it has no effect: how long a model thinks is its own affair."""
    unknown = request.output_config.keys() - {"effort"}
    if unknown:
        raise BadRequest(
            f"output_config.{min(unknown)} is not supported here; remove it.", "output_config", "unsupported_parameter"
        )
    effort = request.output_config.get("effort")
    if request.thinking is None:
        return ({} if effort is None else {"reasoning_effort": effort}), []
    kind = request.thinking.get("type")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise BadRequest(f"thinking.type {str(kind)[:80]!r} is none of enabled, disabled and adaptive.", "thinking")
    ignored = ["thinking.budget_tokens"] if request.thinking.get("budget_tokens") else []
    ignored += [] if effort is None else ["output_config.effort"]
    return {"thinking": {"type": "disabled" if kind == "disabled" else "enabled"}}, ignored
