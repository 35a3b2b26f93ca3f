"""The `message` object of the Messages API: content blocks, why it ended, what it used."""

from __future__ import annotations

from typing import Any

from tunesmith.gateway.calls import Call
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.responses import usage
from tunesmith.rendering.messages import parse_arguments


class MessageObject:
    """The answer of one call, as it is when begun and when ended."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def begun(self) -> dict[str, Any]:
        """Before anything was sampled."""
        return self._object([], None, None, self._usage(0, 0))

    def ended(self, candidate: Candidate) -> dict[str, Any]:
        """With all its content."""
        return self._object(self.blocks(candidate), *self.stop(candidate), self.usage(candidate))

    def blocks(self, candidate: Candidate) -> list[dict[str, Any]]:
        """Thinking, text, tool uses; those that are empty are left out."""
        message = candidate.message
        blocks: list[dict[str, Any]] = []
        if message.get("reasoning_content"):
            blocks.append({"type": "thinking", "thinking": message["reasoning_content"], "signature": ""})
        if message.get("content"):
            blocks.append({"type": "text", "text": message["content"]})
        return blocks + [_tool_use(call) for call in message.get("tool_calls") or []]

    def stop(self, candidate: Candidate) -> tuple[str, str | None]:
        """`stop_reason`, and the stop string that was met."""
        if candidate.finish_reason == "length":
            return "max_tokens", None
        if candidate.message.get("tool_calls"):
            return "tool_use", None
        met = self._stop_met(candidate)
        return ("end_turn", None) if met is None else ("stop_sequence", met)

    def usage(self, candidate: Candidate) -> dict[str, Any]:
        """Tokens of the whole call. What was read from a cache does not count as input in this API."""
        spent = usage(self._call, [candidate])
        return self._usage(spent["completion_tokens"], spent["prompt_tokens_details"]["cached_tokens"])

    def _stop_met(self, candidate: Candidate) -> str | None:
        """The stop string behind the visible text; the engine's ids hold it, its text does not."""
        stops, renderer = self._call.sampling.stop, self._call.target.base.renderer
        if not stops or (candidate.token_ids and candidate.token_ids[-1] in renderer.eos_ids):
            return None
        sampled = renderer.decode(candidate.token_ids)
        behind = sampled[len(candidate.text) :]
        return next((stop for stop in stops if behind.startswith(stop)), next((s for s in stops if s in sampled), None))

    def _usage(self, output: int, cached: int) -> dict[str, Any]:
        return {
            "input_tokens": len(self._call.prompt_ids) - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": output,
        }

    def _object(
        self, content: list[dict[str, Any]], reason: str | None, stop: str | None, used: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": self._call.id,
            "type": "message",
            "role": "assistant",
            "model": self._call.target.name,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": used,
        }


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call. The API takes objects only: arguments that are none are put into one."""
    arguments = parse_arguments(call["function"]["arguments"])
    given = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}
