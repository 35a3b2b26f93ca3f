"""What runs: a request as the scheduler sees it, and each of its candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith.engines.engine import CandidateEvent, FinishReason, Usage
from tunesmith.engines.model import Model
from tunesmith.engines.sampling import Draw, RowSettings
from tunesmith.engines.text import StopScanner, Tokens
from tunesmith.engines.wire import GenerateRequest
from tunesmith.errors import TunesmithError

Deliver = Callable[[list["Message"]], None]
"""Takes a step's messages out of the forward thread."""


@dataclass(frozen=True, slots=True)
class Message:
    """For the caller of one request: an event of a candidate, or the error that ends the request."""

    request: Request
    content: CandidateEvent | TunesmithError


class Request:
    """One accepted `/generate` call."""

    def __init__(self, given: GenerateRequest, model: Model, max_tokens: int, seed: int) -> None:
        self.given = given
        self.model = model
        self.prompt_ids = tuple(given.prompt_ids)
        self.max_tokens = max_tokens
        """As cut to the context."""
        self.seed = seed
        self.cached_tokens: int | None = None
        """Set when the first candidate is admitted."""
        self.admitted = 0
        """Candidates that run or ran; the next one has this index."""
        self.running: set[Sequence] = set()
        self.ended = False

    @property
    def cost(self) -> int:
        """KV tokens that one candidate may come to hold."""
        return len(self.prompt_ids) + self.max_tokens

    def usage(self, completion_tokens: int) -> Usage:
        """Usage of one candidate."""
        return Usage(len(self.prompt_ids), self.cached_tokens or 0, completion_tokens)


class Sequence:
    """One candidate while it runs."""

    def __init__(self, request: Request, index: int, tokens: Tokens, stop_ids: frozenset[int]) -> None:
        given = request.given
        self.request = request
        self.index = index
        self.settings = RowSettings(
            request.seed, index, given.temperature, given.top_p, given.top_k, given.top_logprobs
        )
        self.position = len(request.prompt_ids)
        """Where its next key goes."""
        self.last_id = 0
        self.sampled = 0
        """Tokens sampled so far."""
        self._stop_ids = stop_ids
        self._decoder = tokens.decoder()
        self._scanner = StopScanner(given.stop)
        self._event = self._new_event()

    def accept(self, draw: Draw, row: int) -> CandidateEvent | None:
        """Take the token drawn for this candidate in batch row `row`; returns an event when there is one to send."""
        self.last_id = token_id = draw.token_ids[row]
        self.sampled += 1
        event = self._event
        event.token_ids.append(token_id)
        event.logprobs.append(draw.logprobs[row])
        event.model_logprobs.append(draw.model_logprobs[row])
        if event.top_logprobs is not None and draw.top is not None:
            event.top_logprobs.append(draw.top[row])
        if token_id in self._stop_ids:
            return self.finish(FinishReason.STOP)
        event.text += self._scanner.feed(self._decoder.feed(token_id))
        if self._scanner.found:
            return self.finish(FinishReason.STOP)
        if self.sampled >= self.request.max_tokens:
            return self.finish(FinishReason.LENGTH)
        if not event.text or not self.request.given.stream:
            return None
        self._event = self._new_event()
        return event

    def finish(self, reason: FinishReason) -> CandidateEvent:
        """The final event, with whatever was held back."""
        event = self._event
        if not self._scanner.found:
            event.text += self._scanner.feed(self._decoder.finish())
            if not self._scanner.found:
                event.text += self._scanner.finish()
        event.finish_reason = reason
        event.usage = self.request.usage(self.sampled)
        return event

    def _new_event(self) -> CandidateEvent:
        event = CandidateEvent(self.index)
        if self.request.given.top_logprobs:
            event.top_logprobs = []
        return event
