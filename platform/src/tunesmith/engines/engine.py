"""The seam: what an engine does, whichever library computes it. `app.py` puts any `Engine` on the wire.

An engine takes a `GenerateRequest` and hands back a `Generation`: a stream of `CandidateEvent`s that ends after the final
event of every candidate. Errors that concern the caller are raised as `TunesmithError`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tunesmith.engines.wire import EngineInfo, GenerateRequest
from tunesmith.errors import NotFound


class AdapterNotLoaded(NotFound):
    """The request names an adapter that this engine does not hold; the gateway loads it again and repeats the call."""

    code = "adapter_not_loaded"


class FinishReason(StrEnum):
    """Why a candidate ended."""

    STOP = "stop"
    """A stop id or a stop string."""
    LENGTH = "length"
    """max_tokens, or the context was full."""
    ABORT = "abort"
    """`/abort`, or the caller went away."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one candidate."""

    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values were there already when the request was admitted. The same for every candidate
    of a request: its candidates always share one prefill."""
    completion_tokens: int


@dataclass(slots=True)
class CandidateEvent:
    """What was decoded of one candidate since its last event; the last one has a finish reason and usage."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """At the sampling temperature, over the whole vocabulary, before top_k and top_p."""
    model_logprobs: list[float] = field(default_factory=list)
    """At temperature 1."""
    top_logprobs: list[list[tuple[int, float]]] | None = None
    """Per sampled token the likeliest (id, log-probability at temperature 1), best first; None unless asked for."""
    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Generation(Protocol):
    """One accepted request, as its events come."""

    async def next_events(self) -> Sequence[CandidateEvent]:
        """Wait for events. Empty after the last one. Raises the TunesmithError that ended the request."""
        ...

    def cancel(self) -> None:
        """Free everything the request holds. Does nothing when it has ended. Callable from the event loop only."""
        ...


class Engine(Protocol):
    """One base model and its adapters."""

    def generate(self, request: GenerateRequest) -> Generation:
        """Accept a request. Raises InvalidArgument, AlreadyExists (request_id in use) or AdapterNotLoaded."""
        ...

    async def score(self, model: str | None, token_ids: list[int]) -> list[float]:
        """Log-probability of each token but the first, at temperature 1. Raises InvalidArgument or AdapterNotLoaded."""
        ...

    async def load(self, name: str, path: str) -> str:
        """Load a LoRA folder under a name; returns the sha256 of its weights file. Raises InvalidArgument or AlreadyExists."""
        ...

    async def unload(self, name: str) -> None:
        """Forget an adapter; its memory is freed when the last running request ends. Raises AdapterNotLoaded."""
        ...

    def abort(self, request_id: str) -> None:
        """End a request with finish reason `abort`; an unknown id is fine (it may have just ended)."""
        ...

    def info(self) -> EngineInfo:
        """What is loaded and what this engine can do."""
        ...
