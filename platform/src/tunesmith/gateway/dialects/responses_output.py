"""The `response` object of the Responses API and its output items: the same for an answer sent whole and the end of a stream."""

from __future__ import annotations

import time
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.dialects.responses_request import ResponsesRequest
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.responses import logprob_writer, usage


class ResponseObject:
    """The `response` of one call, as it is when begun, failed or ended."""

    def __init__(self, call: Call, request: ResponsesRequest) -> None:
        self._call, self._request = call, request
        self.suffix = call.id.removeprefix("resp_")
        """What the ids of the response's items have in common."""
        self.with_logprobs = request.wants_logprobs

    def begun(self) -> dict[str, Any]:
        """Before anything was sampled."""
        return self._object("in_progress", [])

    def failed(self, error: TunesmithError) -> dict[str, Any]:
        """After an error in the middle."""
        reason = getattr(error, "reason", "server_error")
        return {**self._object("failed", []), "error": {"code": reason, "message": error.message}}

    def ended(self, candidate: Candidate) -> dict[str, Any]:
        """With all its output; `incomplete` when the token limit cut it."""
        cut = candidate.finish_reason == "length"
        answer = self._object("incomplete" if cut else "completed", self.items(candidate))
        if cut:
            answer["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            answer["completed_at"] = time.time()
        spent = usage(self._call, [candidate])
        answer["usage"] = {
            "input_tokens": spent["prompt_tokens"],
            "input_tokens_details": {**spent["prompt_tokens_details"], "cache_write_tokens": 0},
            "output_tokens": spent["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": spent["total_tokens"],
        }
        return answer

    def items(self, candidate: Candidate) -> list[dict[str, Any]]:
        """Output items: reasoning, a message, function calls. The message is left out where there are only calls."""
        message, cut = candidate.message, candidate.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        calls = message.get("tool_calls") or []
        items = []
        says = bool(message.get("content")) or not calls
        if message.get("reasoning_content"):
            thought = "completed" if says or calls else status
            items.append({**self.reasoning_item(message["reasoning_content"]), "status": thought})
        if says:
            logprobs = self.logprobs(candidate) if self.with_logprobs else []
            items.append({**self.message_item([text_part(message.get("content") or "", logprobs)]), "status": status})
        items += [{**self.call_item(number, call), "status": status} for number, call in enumerate(calls)]
        return items

    def reasoning_item(self, text: str | None = None) -> dict[str, Any]:
        """The model's reasoning, in its own words; no text yet while it is streamed."""
        content = [] if text is None else [{"type": "reasoning_text", "text": text}]
        return {
            "id": f"rs_{self.suffix}",
            "type": "reasoning",
            "summary": [],
            "content": content,
            "status": "in_progress",
        }

    def message_item(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        """What the model said."""
        return {
            "id": f"msg_{self.suffix}",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": content,
        }

    def call_item(self, number: int, call: dict[str, Any]) -> dict[str, Any]:
        """A function call."""
        return {
            "id": f"fc_{self.suffix}_{number}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
        }

    def logprobs(self, candidate: Candidate) -> list[dict[str, Any]]:
        """Log-probabilities of everything that was sampled."""
        return token_logprobs(
            logprob_writer(self._call).write(
                candidate.token_ids, candidate.logprobs, candidate.model_logprobs, candidate.top_logprobs
            )
        )

    def _object(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        call, request = self._call, self._request
        return {
            "id": call.id,
            "object": "response",
            "created_at": int(call.started),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": None,
            "model": call.target.name,
            "output": output,
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": request.reasoning.effort, "summary": request.reasoning.summary},
            "store": request.store,
            "temperature": call.sampling.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": request.tool_choice,
            "tools": request.tools,
            "top_logprobs": request.top_logprobs,
            "top_p": call.sampling.top_p,
            "truncation": request.truncation,
            "usage": None,
            "user": (request.model_extra or {}).get("user"),
            "metadata": request.metadata,
        }


def text_part(text: str, logprobs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The content part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def token_logprobs(written: dict[str, Any]) -> list[dict[str, Any]]:
    """Chat's log-probabilities with the keys that this API gives them."""
    keys = ("token", "bytes", "logprob")
    return [
        {
            **{key: getattr(item, key) for key in keys},
            "top_logprobs": [{key: getattr(top, key) for key in keys} for top in item.top_logprobs],
        }
        for item in written["content"]
    ]
