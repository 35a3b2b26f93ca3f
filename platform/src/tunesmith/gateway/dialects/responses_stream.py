"""The events of a streamed response, in OpenAI's order: created, in progress, each item opened, grown and closed, completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.dialects.responses_output import ResponseObject, text_part, token_logprobs
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.responses import logprob_writer
from tunesmith.gateway.streaming import Delta, sse


class ResponsesWriter:
    """Reasoning and text stream as they are sampled, function calls once they are whole."""

    def __init__(self, call: Call, response: ResponseObject, candidates: Sequence[Candidate]) -> None:
        self._response = response
        self._candidates = candidates
        self._writer = logprob_writer(call)
        self._pending: list[dict[str, Any]] = []
        """Log-probabilities that wait for the text that they made visible."""
        self._number = 0
        self._open: str | None = None
        """The type of the item that is growing."""
        self._reasoning = ""
        self._items = 0
        """Items opened so far."""

    def begin(self) -> bytes:
        """Created and in progress."""
        response = self._response.begun()
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, delta: Delta) -> bytes:
        """What one engine event added; the last one closes everything."""
        event, pieces = delta.event, []
        if self._response.with_logprobs and event.token_ids:
            written = self._writer.write(event.token_ids, event.logprobs, event.model_logprobs, event.top_logprobs)
            self._pending += token_logprobs(written)
        if delta.reasoning:
            pieces += self._opened("reasoning")
            self._reasoning += delta.reasoning
            pieces.append(self._grown("response.reasoning_text.delta", f"rs_{self._response.suffix}", delta.reasoning))
        if delta.content:
            pieces += self._thought() + self._opened("message")
            message_id, logprobs = f"msg_{self._response.suffix}", self._pending
            self._pending = []
            pieces.append(self._grown("response.output_text.delta", message_id, delta.content, {"logprobs": logprobs}))
        if delta.ended:
            pieces += self._ended(delta.candidate)
        return b"".join(pieces)

    def end(self) -> bytes:
        """Completed, or incomplete when the token limit cut it."""
        answer = self._response.ended(self._candidates[0])
        return self._event(f"response.{answer['status']}", response=answer)

    def failed(self, error: TunesmithError) -> bytes:
        """An error in the middle ends the response."""
        return self._event("response.failed", response=self._response.failed(error))

    def _ended(self, candidate: Candidate) -> list[bytes]:
        pieces: list[bytes] = []
        for item in self._response.items(candidate):
            kind = item["type"]
            if kind == "function_call":
                pieces += self._call(item)
            elif kind == "message" or self._open == kind:  # reasoning in front of text was closed when the text began
                pieces += ([] if kind == "reasoning" else self._thought()) + self._opened(kind) + self._closed(item)
        return pieces

    def _thought(self) -> list[bytes]:
        """Close the reasoning, if it is open: something else begins."""
        if self._open != "reasoning":
            return []
        return self._closed({**self._response.reasoning_item(self._reasoning), "status": "completed"})

    def _call(self, item: dict[str, Any]) -> list[bytes]:
        index, arguments = self._items, item["arguments"]
        self._items += 1
        place = {"item_id": item["id"], "output_index": index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        done = {"name": item["name"], "arguments": arguments}
        return [
            self._event("response.output_item.added", output_index=index, item=begun),
            self._event("response.function_call_arguments.delta", **place, delta=arguments),
            self._event("response.function_call_arguments.done", **place, **done),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _opened(self, kind: str) -> list[bytes]:
        """Open the item that text of this kind belongs to, if it is not open."""
        if self._open == kind:
            return []
        self._open, index = kind, self._items
        self._items += 1
        message = kind == "message"
        item = self._response.message_item([]) if message else self._response.reasoning_item()
        part = text_part("") if message else {"type": "reasoning_text", "text": ""}
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        return [
            self._event("response.output_item.added", output_index=index, item=item),
            self._event("response.content_part.added", **place, part=part),
        ]

    def _grown(self, event: str, item_id: str, text: str, more: dict[str, Any] | None = None) -> bytes:
        return self._event(
            event, item_id=item_id, output_index=self._items - 1, content_index=0, delta=text, **(more or {})
        )

    def _closed(self, item: dict[str, Any]) -> list[bytes]:
        """Close the open item with its final content."""
        self._open = None
        index, part = self._items - 1, item["content"][0]
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        message = item["type"] == "message"
        more = {"logprobs": part["logprobs"]} if message else {}
        event = "response.output_text.done" if message else "response.reasoning_text.done"
        return [
            self._event(event, **place, text=part["text"], **more),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse({"type": kind, "sequence_number": number, **fields}, kind)
