"""What a passed-through call used, and its log-probabilities in a form that records hold, whatever an upstream says of them."""

from __future__ import annotations

from typing import Any

from tunesmith.db.answers.answer import Answer, PassedCandidate

_LEAST = -1e30
"""Stands for every log-probability below it; records hold 32-bit floats."""


def counted_usage(answer: Answer, request_bytes: int) -> dict[str, Any]:
    """Usage in the chat form. Without the upstream's own figures it is estimated, four bytes to a token, and says so."""
    known = given_usage(answer.usage)
    if known is not None:
        return known
    spelled = sum(_size(candidate) for candidate in answer.candidates.values())
    return {"prompt_tokens": -(-request_bytes // 4), "completion_tokens": -(-spelled // 4), "estimated": True}


def given_usage(usage: dict[str, Any]) -> dict[str, Any] | None:
    """An upstream's own figures in the chat form, None where it gave none."""
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    prompt += _count(usage, "cache_creation_input_tokens") + _count(usage, "cache_read_input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    if not prompt and not completion:
        return None
    return {**usage, "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def bounded(logprobs: list[float]) -> list[float]:
    """Log-probabilities that fit 32-bit floats, whatever an upstream gives."""
    if logprobs and not (min(logprobs) >= _LEAST and max(logprobs) <= -_LEAST):
        return [min(max(logprob, _LEAST), -_LEAST) for logprob in logprobs]
    return logprobs


def _size(candidate: PassedCandidate) -> int:
    calls = sum(len(call["function"]["arguments"]) for call in candidate.tool_calls.values())
    return len(candidate.content.encode(errors="replace")) + len(candidate.reasoning.encode(errors="replace")) + calls


def _count(usage: dict[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return 0
