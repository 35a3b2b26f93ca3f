"""OpenAI Responses (`POST …/responses`), the default of the OpenAI Agents SDK: the call in chat form, and its whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tunesmith.db.completions import Completion, CompletionStatus
from tunesmith.errors import NotFound, TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.dialects.dialect import Recall
from tunesmith.gateway.dialects.responses_input import chat_messages, recorded_item, response_of
from tunesmith.gateway.dialects.responses_output import ResponseObject
from tunesmith.gateway.dialects.responses_request import ResponsesRequest
from tunesmith.gateway.dialects.responses_stream import ResponsesWriter
from tunesmith.gateway.errors import BadRequest, envelope
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.requests import ParsedChat, parse_chat, validated
from tunesmith.gateway.streaming import Writer
from tunesmith.gateway.tools import canonical_tool, chosen_name

_RENAMED = {"max_tokens": "max_output_tokens", "messages": "input", "reasoning_effort": "reasoning"}
"""Options of the chat form by the names they have here, for errors."""
_PASSED = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
    "metadata",
    "store",
    "user",
    "parallel_tool_calls",
)
"""Options that both forms know under one name."""


class PreviousResponseNotFound(NotFound):
    """`previous_response_id` names nothing that this caller could continue."""

    param, reason = "previous_response_id", "previous_response_not_found"


class ItemNotFound(NotFound):
    """An `item_reference` names nothing that this caller was answered."""

    param, reason = "input", "item_not_found"


class Responses:
    """One call of the Responses API."""

    name: ClassVar[str] = "responses"
    error = staticmethod(envelope)

    def __init__(self) -> None:
        self._request: ResponsesRequest | None = None

    async def read(self, body: Any, recall: Recall) -> ParsedChat:
        """The call in chat form. Raises BadRequest, and PreviousResponseNotFound when the past that it names is not recorded."""
        if not isinstance(body, dict):
            raise BadRequest("The body is not a JSON object.")
        body = {key: value for key, value in body.items() if value is not None}
        request = self._request = validated(ResponsesRequest, body)
        past = await _past(request.previous_response_id, recall)
        leading = [{"role": "system", "content": request.instructions}] if request.instructions else []
        messages = [*leading, *past, *chat_messages(await _resolved(request.input, recall))]
        if "input" not in body and not past:
            raise BadRequest("input is required.", "input", "missing_required_parameter")
        chat = _chat_body(request, body, messages)
        try:
            parsed = parse_chat(chat)
        except BadRequest as error:
            raise _renamed(error) from error
        notes: dict[str, Any] = {"instructions": len(leading)}
        if request.text.verbosity not in (None, "medium"):
            notes["ignored"] = ["text.verbosity"]
        return ParsedChat(parsed.chat, parsed.body, self.name, "resp_", notes)

    def whole(self, call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """The `response` object."""
        assert self._request is not None
        return ResponseObject(call, self._request).ended(candidates[0])

    def writer(self, call: Call, candidates: Sequence[Candidate]) -> Writer:
        """Writes the events of a streamed response."""
        assert self._request is not None
        return ResponsesWriter(call, ResponseObject(call, self._request), candidates)


async def _resolved(items: str | list[Any], recall: Recall) -> str | list[Any]:
    """The input with what it only refers to (`item_reference`), as some frameworks send past output, read back from the record."""
    if isinstance(items, str):
        return items
    resolved = []
    for item in items:
        if isinstance(item, dict) and item.get("type") == "item_reference":
            item = await _referenced(item.get("id"), recall)
        resolved.append(item)
    return resolved


async def _referenced(id: Any, recall: Recall) -> dict[str, Any]:
    response = response_of(id)
    recorded = await recall(f"{response}-0") if response else None
    item = recorded_item(id, recorded.message) if recorded is not None and _can_continue(recorded) else None
    if item is None:
        raise ItemNotFound(
            f"There is no item {str(id)[:100]!r} to refer to: it is not recorded under this key, was cut, or was sent with store: false. "
            "Send the item itself instead."
        )
    return item


async def _past(id: str | None, recall: Recall) -> list[Any]:
    """The conversation that ended in a response, without its instructions: those are not carried over."""
    if id is None:
        return []
    recorded = await recall(f"{id}-0")
    if not _can_continue(recorded):
        raise PreviousResponseNotFound(
            f"There is no response {id[:100]!r} to continue: it is not recorded under this key, was cut, or was sent with store: false. "
            "Send the conversation as input instead."
        )
    assert recorded is not None
    return [*recorded.request["messages"][recorded.params.get("instructions", 0) :], recorded.message]


def _can_continue(recorded: Completion | None) -> bool:
    return (
        recorded is not None
        and recorded.params.get("dialect") == Responses.name
        and recorded.status is CompletionStatus.COMPLETE
        and recorded.request.get("store") is not False
    )


def _chat_body(request: ResponsesRequest, body: dict[str, Any], messages: list[Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {**(request.model_extra or {}), "model": request.model, "messages": messages}
    chat.update({name: body[name] for name in _PASSED if name in body})
    if request.max_output_tokens:
        chat["max_tokens"] = request.max_output_tokens
    if request.text.format is not None and request.text.format.get("type") != "text":
        chat["response_format"] = request.text.format
    if request.reasoning.effort is not None:
        chat["reasoning_effort"] = request.reasoning.effort
    if request.wants_logprobs:
        chat["logprobs"] = True
        chat["top_logprobs"] = request.top_logprobs
    if request.tools:
        chat["tools"] = [_chat_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if choice != "auto":
            named = isinstance(choice, dict) and choice.get("type") == "function"
            chat["tool_choice"] = {"type": "function", "function": {"name": chosen_name(choice)}} if named else choice  # type: ignore[arg-type]
    return chat


def _chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A function tool in chat form; any other keeps its type, by which it is refused."""
    if tool.get("type", "function") != "function":
        return tool
    function = {key: value for key, value in tool.items() if key != "type"}
    return canonical_tool({"function": function})


def _renamed(error: BadRequest) -> TunesmithError:
    if error.param == "response_format":
        return BadRequest(
            "text.format other than {'type': 'text'} would constrain what is sampled, which is not supported. Ask for JSON in the "
            "instructions instead.",
            "text",
            error.reason,
        )
    param = _RENAMED.get(error.param or "", error.param)
    message = error.message.replace(error.param, param) if error.param and param else error.message
    return BadRequest(message, param, error.reason)
