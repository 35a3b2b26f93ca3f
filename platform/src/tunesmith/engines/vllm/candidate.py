"""One candidate of a request: vLLM's sampled tokens become events of the Engine API.

vLLM is given no stop strings and no tokenizer: text, stop strings and what they cut are decided here, as in the built-in engine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from tunesmith.engines.engine import CandidateEvent, FinishReason, Usage
from tunesmith.engines.text import StopScanner, Tokens
from tunesmith.engines.wire import GenerateRequest


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token as vLLM gives it."""

    token_id: int
    logprob: float
    """At temperature 1."""
    normaliser: float | None
    """log sum exp(log p / T) over the vocabulary at the sampling temperature T; None when vLLM did not send it."""
    top: list[tuple[int, float]]
    """The likeliest (id, log-probability at temperature 1), best first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What came at once from vLLM."""

    tokens: list[Token] = field(default_factory=list)
    finish_reason: str | None = None
    cached_tokens: int | None = None


class Candidate:
    """The events of one candidate."""

    def __init__(self, request: GenerateRequest, index: int, tokens: Tokens, stop_ids: frozenset[int]) -> None:
        self._request = request
        self._index = index
        self._stop_ids = stop_ids
        self._decoder = tokens.decoder()
        self._scanner = StopScanner(request.stop)
        self._sampled = 0
        self._cached = 0
        self._event = self._new_event()
        self.finished = False

    def accept(self, piece: Piece) -> CandidateEvent | None:
        """Take what came; returns an event when there is one to send. Tokens after a stop are dropped."""
        if piece.cached_tokens is not None:
            self._cached = piece.cached_tokens
        for token in piece.tokens:
            if self._take(token):
                return self.finish(FinishReason.STOP)
        if piece.finish_reason is not None:
            return self.finish(_REASONS.get(piece.finish_reason, FinishReason.ABORT))
        if not self._event.text or not self._request.stream:
            return None
        event, self._event = self._event, self._new_event()
        return event

    def finish(self, reason: FinishReason) -> CandidateEvent:
        """The final event, with whatever was held back."""
        event = self._event
        if not self._scanner.found:
            event.text += self._scanner.feed(self._decoder.finish())
            if not self._scanner.found:
                event.text += self._scanner.finish()
        event.finish_reason = reason
        event.usage = Usage(len(self._request.prompt_ids), self._cached, self._sampled)
        self.finished = True
        return event

    def _take(self, token: Token) -> bool:
        """Add a token; says whether it ends the candidate."""
        temperature = self._request.temperature
        self._sampled += 1
        self._event.token_ids.append(token.token_id)
        self._event.model_logprobs.append(token.logprob)
        if temperature in (0, 1):
            self._event.logprobs.append(token.logprob)
        else:
            if token.normaliser is None:
                raise ValueError(f"token {token.token_id} came without its normaliser at temperature {temperature}")
            # Rounding may lift a certain token above 0.
            self._event.logprobs.append(min(0.0, token.logprob / temperature - token.normaliser))
        if self._event.top_logprobs is not None:
            self._event.top_logprobs.append(token.top)
        if token.token_id in self._stop_ids:
            return True
        self._event.text += self._scanner.feed(self._decoder.feed(token.token_id))
        return self._scanner.found

    def _new_event(self) -> CandidateEvent:
        return CandidateEvent(self._index, top_logprobs=[] if self._request.top_logprobs else None)


_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "abort": FinishReason.ABORT}


def candidate_seed(seed: int, index: int) -> int:
    """A seed of 63 bits for each candidate of a request; equal ones for equal (seed, index)."""
    digest = hashlib.sha256(f"tunesmith.vllm {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
