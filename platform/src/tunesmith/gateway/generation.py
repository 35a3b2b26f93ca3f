"""Running a prepared call: engine events become candidates, ended candidates become committed completions.

Nothing is called finished before its record is committed. A call that is cut (the client left, the engine was stopped) is stored as
aborted with what had been sampled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from tunesmith.db.completions import Completion, CompletionStatus, CompletionStore
from tunesmith.errors import TunesmithError, Unavailable
from tunesmith.gateway.adapters import Adapters
from tunesmith.gateway.calls import Call
from tunesmith.gateway.engines import EngineEvent, Engines
from tunesmith.gateway.errors import EngineLost
from tunesmith.gateway.rollouts import RecordedTurn

log = logging.getLogger(__name__)


@dataclass
class Candidate:
    """One completion while it grows."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    model_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)
    """The assistant message, once ended."""
    stored: bool = False

    def take(self, event: EngineEvent) -> None:
        """Add what an event brought."""
        self.token_ids += event.token_ids
        self.logprobs += event.logprobs
        self.model_logprobs += event.model_logprobs
        self.top_logprobs += event.top_logprobs or ()
        self.text += event.text
        self.finish_reason = event.finish_reason or self.finish_reason
        self.usage = event.usage or self.usage

    @property
    def complete(self) -> bool:
        """Ended by the model or the token limit, not cut."""
        return self.finish_reason is not None and self.finish_reason != "abort"


class Generation:
    """One call being answered. Use as `async with`: leaving it early is a cut."""

    def __init__(
        self, call: Call, adapters: Adapters, engines: Engines, store: CompletionStore, tasks: Background
    ) -> None:
        self.call = call
        self.candidates = [Candidate(index) for index in range(call.sampling.n)]
        self._entered = False
        self._adapters = adapters
        self._engines = engines
        self._store = store
        self._tasks = tasks

    async def __aenter__(self) -> Generation:
        self._entered = True
        return self

    def discard(self) -> None:
        """Give the turn back if the call was dropped before it was entered."""
        if not self._entered and self.call.turn:
            self.call.turn.end(used=False)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        left = kind is not None and not issubclass(kind, Exception)  # cancelled or closed: the client went away
        begun = left or any(candidate.token_ids for candidate in self.candidates)
        if not all(candidate.stored for candidate in self.candidates):
            cut = [candidate for candidate in self.candidates if begun and not candidate.stored]
            self._tasks.spawn(self._cut(cut))  # this task may be cancelled: nothing may be awaited here
        if self.call.turn:
            self.call.turn.end(used=begun)

    async def run(self) -> AsyncIterator[list[tuple[EngineEvent, Candidate]]]:
        """Yield the events that arrived together, each with its candidate. An ended candidate's come after its completion is
        committed.

        Raises Unavailable when the engine is lost on the way or the record cannot be written.
        """
        async with aclosing(self._adapters.events(self.call.target, self.call.engine_body)) as events:  # type: ignore[type-var]
            async for arrived in events:
                taken = []
                for event in arrived:
                    candidate = self.candidates[event.index]
                    candidate.take(event)
                    taken.append((event, candidate))
                ended = [c for c in self.candidates if c.complete and not c.stored]
                if ended:
                    await self.store(ended)
                yield taken
        self._check_ended()

    async def run_whole(self) -> None:
        """Run to the end and commit all candidates at once; a lost engine is started again and the call repeated."""
        try:
            await self._collect()
        except EngineLost:
            self.candidates = [Candidate(index) for index in range(self.call.sampling.n)]
            await self._collect()
        self._check_ended()
        await self.store(self.candidates)

    async def store(self, candidates: Sequence[Candidate]) -> None:
        """Commit ended candidates and remember them for the rollout's next turn."""
        call = self.call
        for candidate in candidates:
            candidate.message = call.target.base.renderer.parse(
                candidate.text, bool(call.conversation.tools), candidate.token_ids, call.prompt_ids
            )
        await self._store.add([to_completion(call, candidate) for candidate in candidates])
        for candidate in candidates:
            candidate.stored = True
            if call.turn:
                call.turn.record(
                    RecordedTurn(
                        call.target.base.entry.name,
                        call.conversation,
                        candidate.message,
                        call.prompt_ids,
                        candidate.token_ids,
                    )
                )

    async def _collect(self) -> None:
        async with aclosing(self._adapters.events(self.call.target, self.call.engine_body)) as events:  # type: ignore[type-var]
            async for arrived in events:
                for event in arrived:
                    self.candidates[event.index].take(event)

    def _check_ended(self) -> None:
        if not all(candidate.complete for candidate in self.candidates):
            raise Unavailable(
                f"The engine of {self.call.target.base.entry.name} stopped this completion before its end (it is shutting down, "
                "or the model was unloaded). Try again."
            )

    async def _cut(self, cut: list[Candidate]) -> None:
        await self._engines.abort(self.call.target.base.entry.name, self.call.id)
        for candidate in cut:
            candidate.finish_reason = "abort"
            candidate.message = {"role": "assistant", "content": candidate.text}
        try:
            await self._store.add([to_completion(self.call, candidate) for candidate in cut])
        except TunesmithError as error:
            log.error("The cut completion %s is lost: %s", self.call.id, error.message)


class Background:
    """Work that outlives the request it came from; `drain` waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own; it must handle its errors."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait for everything that is still running."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def to_completion(call: Call, candidate: Candidate) -> Completion:
    """The record of an ended or cut candidate."""
    policy = call.target.policy
    return Completion(
        id=f"{call.id}-{candidate.index}",
        created_at=call.started,
        account=call.key.account,
        job=call.job,
        ids=call.ids,
        turn=call.turn.number if call.turn else 0,
        index=candidate.index,
        model=call.target.name,
        base_model=call.target.base.entry.name,
        policy_version=policy.version if policy else None,
        prompt_ids=call.prompt_ids,
        sampled_ids=candidate.token_ids,
        logprobs=candidate.logprobs,
        temperature=call.sampling.temperature,
        finish_reason=candidate.finish_reason,
        status=CompletionStatus.COMPLETE if candidate.complete else CompletionStatus.ABORTED,
        request=call.body,
        message=candidate.message,
        text=candidate.text,
        params={**vars(call.sampling), "template_variables": call.conversation.variables, **call.notes},
        usage=candidate.usage,
        latency=time.monotonic() - call.begun,
    )
