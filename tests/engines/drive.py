"""Driving an engine inside the test's own process."""

from __future__ import annotations

from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.engine import CandidateEvent
from tunesmith.engines.wire import GenerateRequest


async def all_events(engine: BuiltinEngine, request: GenerateRequest) -> list[CandidateEvent]:
    """Every event of a request, in the order they came."""
    generation = engine.generate(request)
    events: list[CandidateEvent] = []
    while found := await generation.next_events():
        events += found
    return events


async def finals(engine: BuiltinEngine, request: GenerateRequest) -> list[CandidateEvent]:
    """The final events in order of their candidates' index; with `stream=False` they hold everything."""
    events = [event for event in await all_events(engine, request) if event.finish_reason is not None]
    assert len(events) == request.n
    return sorted(events, key=lambda event: event.index)
