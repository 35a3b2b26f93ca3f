"""The built-in engine with a prompter: where a script says what to answer, those ids are "sampled", with the log-probabilities that
the model really gives them. What it answered is kept, so that a test can compare what was recorded and trained with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.engine import CandidateEvent, FinishReason, Generation, Usage
from tunesmith.engines.wire import EngineInfo, GenerateRequest


@dataclass(frozen=True)
class Script:
    """One answer."""

    ids: list[int]
    text: str
    end: FinishReason


@dataclass
class Answered:
    """What one request got."""

    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class ScriptedEngine:
    """An `Engine`. Requests take scripts in turn; without one the model samples by itself. Temperature 1 only."""

    def __init__(self, engine: BuiltinEngine) -> None:
        self._engine = engine
        self.scripts: deque[Script] = deque()
        self.answered: dict[str, Answered] = {}
        """By request id."""

    def generate(self, request: GenerateRequest) -> Generation:
        """Answer with the next script, or sample."""
        assert request.temperature == 1.0
        kept = self.answered[request.request_id or ""] = Answered(request.prompt_ids)
        if not self.scripts:
            return _Sampled(self._engine.generate(request), kept)
        return _Scripted(self._engine, request, self.scripts.popleft(), kept)

    async def score(self, model: str | None, token_ids: list[int]) -> list[float]:
        """As the engine."""
        return await self._engine.score(model, token_ids)

    async def load(self, name: str, path: str) -> str:
        """As the engine."""
        return await self._engine.load(name, path)

    async def unload(self, name: str) -> None:
        """As the engine."""
        await self._engine.unload(name)

    def abort(self, request_id: str) -> None:
        """As the engine."""
        self._engine.abort(request_id)

    def info(self) -> EngineInfo:
        """As the engine."""
        return self._engine.info()


class _Sampled:
    def __init__(self, generation: Generation, kept: Answered) -> None:
        self._generation = generation
        self._kept = kept

    async def next_events(self) -> Sequence[CandidateEvent]:
        events = await self._generation.next_events()
        for event in events:
            self._kept.token_ids += event.token_ids
            self._kept.logprobs += event.logprobs
        return events

    def cancel(self) -> None:
        self._generation.cancel()


class _Scripted:
    def __init__(self, engine: BuiltinEngine, request: GenerateRequest, script: Script, kept: Answered) -> None:
        self._engine = engine
        self._request = request
        self._script: Script | None = script
        self._kept = kept

    async def next_events(self) -> Sequence[CandidateEvent]:
        script, self._script = self._script, None
        if script is None:
            return []
        prompt = self._request.prompt_ids
        scored = await self._engine.score(self._request.model, [*prompt, *script.ids])
        logprobs = scored[len(prompt) - 1 :]
        self._kept.token_ids, self._kept.logprobs = script.ids, logprobs
        usage = Usage(len(prompt), 0, len(script.ids))
        return [CandidateEvent(0, script.ids, logprobs, logprobs, None, script.text, script.end, usage)]

    def cancel(self) -> None:
        self._script = None
