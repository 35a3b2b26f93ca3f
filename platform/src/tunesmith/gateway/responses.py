"""OpenAI's answer objects, with the extensions of the documented API: token ids, both log-probabilities, raw output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tunesmith.gateway.calls import Call
from tunesmith.gateway.generation import Candidate
from tunesmith.rendering import Renderer


class Alternative(msgspec.Struct, gc=False):
    """A token that could have been sampled instead."""

    token: str
    logprob: float
    token_id: int
    bytes: list[int]


class TokenLogprob(msgspec.Struct, gc=False):
    """One sampled token, as it is written to the client. A structure, because an answer has thousands of them."""

    token: str
    logprob: float
    """At temperature 1."""
    sampling_logprob: float
    """Under the distribution sampled from."""
    token_id: int
    bytes: list[int]
    text_offset: int
    top_logprobs: list[Alternative]


class LogprobWriter:
    """Log-probabilities of one candidate in the client's form; keeps the text offset from piece to piece."""

    def __init__(self, renderer: Renderer, legacy: bool, alternatives: int) -> None:
        self._vocabulary = renderer.vocabulary
        self._legacy = legacy
        self._alternatives = alternatives
        self._offset = 0

    def write(
        self,
        token_ids: list[int],
        logprobs: list[float],
        model_logprobs: list[float],
        top_logprobs: list[list[tuple[int, float]]] | None,
    ) -> dict[str, Any]:
        """One `logprobs` object. `logprobs` are those sampled from, `model_logprobs` those at temperature 1; all of one length."""
        content = self._tokens(token_ids, logprobs, model_logprobs, top_logprobs)
        if not self._legacy:
            return {"content": content}
        return {
            "tokens": [item.token for item in content],
            "token_logprobs": [item.logprob for item in content],
            "top_logprobs": [{top.token: top.logprob for top in item.top_logprobs} for item in content],
            "text_offset": [item.text_offset for item in content],
            "token_ids": [item.token_id for item in content],
        }

    def _tokens(
        self,
        token_ids: list[int],
        logprobs: list[float],
        model_logprobs: list[float],
        top_logprobs: list[list[tuple[int, float]]] | None,
    ) -> list[TokenLogprob]:
        spelled, offset, content = self._vocabulary.spelled, self._offset, []
        for id, sampled, model in zip(token_ids, logprobs, model_logprobs, strict=True):
            token, raw = spelled(id)
            content.append(TokenLogprob(token, model, sampled, id, raw, offset, []))
            offset += len(token)
        self._offset = offset
        if self._alternatives and top_logprobs and len(top_logprobs) == len(token_ids):
            for item, top in zip(content, top_logprobs, strict=True):
                item.top_logprobs = [
                    Alternative(spelled(other)[0], logprob, other, spelled(other)[1])
                    for other, logprob in top[: self._alternatives]
                ]
        return content


def logprob_writer(call: Call) -> LogprobWriter:
    """The writer for one candidate of a call."""
    return LogprobWriter(call.target.base.renderer, call.chat.legacy_logprobs, call.chat.alternatives)


def wants_logprobs(call: Call) -> bool:
    """Whether the client asked for them; `logprobs: 0` does."""
    return call.chat.legacy_logprobs or bool(call.chat.logprobs)


def finish_reason(call: Call, candidate: Candidate) -> str | None:
    """OpenAI's word for why a candidate ended."""
    if candidate.finish_reason == "stop" and candidate.message.get("tool_calls"):
        return "function_call" if call.chat.legacy_functions else "tool_calls"
    return candidate.finish_reason


def usage(call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Tokens of the call; the prompt counts once however many candidates it has."""
    completion = sum(candidate.usage.get("completion_tokens", len(candidate.token_ids)) for candidate in candidates)
    cached = max((candidate.usage.get("cached_tokens", 0) for candidate in candidates), default=0)
    return {
        "prompt_tokens": len(call.prompt_ids),
        "completion_tokens": completion,
        "total_tokens": len(call.prompt_ids) + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def completion_object(call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The answer to a call that is not streamed."""
    answer = {
        "id": call.id,
        "object": "chat.completion",
        "created": int(call.started),
        "model": call.target.name,
        "choices": [_choice(call, candidate) for candidate in candidates],
        "usage": usage(call, candidates),
    }
    if call.chat.return_token_ids:
        answer["prompt_token_ids"] = call.prompt_ids
    return answer


def _choice(call: Call, candidate: Candidate) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": candidate.index,
        "message": _message(call, candidate),
        "finish_reason": finish_reason(call, candidate),
        "logprobs": None,
    }
    if wants_logprobs(call):
        choice["logprobs"] = logprob_writer(call).write(
            candidate.token_ids, candidate.logprobs, candidate.model_logprobs, candidate.top_logprobs
        )
    if call.chat.return_token_ids:
        choice["token_ids"] = candidate.token_ids
    if call.chat.raw_output:
        choice["raw_output"] = raw_output(call, candidate)
    return choice


def _message(call: Call, candidate: Candidate) -> dict[str, Any]:
    """The assistant message; clients that sent `functions` find its first call under the deprecated name too."""
    calls = candidate.message.get("tool_calls")
    if not calls or not call.chat.legacy_functions:
        return candidate.message
    return {**candidate.message, "function_call": calls[0]["function"]}


def raw_output(call: Call, candidate: Candidate) -> dict[str, Any]:
    """What went into the model and came out of it, before tool calls are read."""
    renderer = call.target.base.renderer
    return {
        "prompt_fragments": [renderer.decode(call.prompt_ids)],
        "prompt_token_ids": call.prompt_ids,
        "completion": candidate.text,
        "completion_token_ids": candidate.token_ids,
        "completion_logprobs": LogprobWriter(renderer, False, 0).write(
            candidate.token_ids, candidate.logprobs, candidate.model_logprobs, []
        ),
    }
