"""`GET …/traces` and `GET …/traces/pointwise`: recorded completions as the published clients read them. One trace a completion.

Fetching the traces of a rollout by its id ends it: where its status is terminal without an error, it is closed. `pointwise` first
waits until no call of the rollout is in flight, so that nothing is missed that its agent already got.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import fields
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.db.completions import Completion, CompletionFilter, CorrelationIds, Pick
from tunesmith.gateway.auth import Key
from tunesmith.gateway.chat import unless_client_leaves
from tunesmith.gateway.conversations import conversation_of
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.payloads import payloads_of
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.tracing import Query, iso, scope_of

MOST_TRACES = 1000
"""Of one answer: each carries its whole conversation."""
LEAST_WAIT = 5.0
"""Seconds that `pointwise` waits for calls in flight, however little the client asks for."""
LONGEST_WAIT = 300.0
_IDS = tuple(item.name for item in fields(CorrelationIds))
_PARAMETERS = {
    *("tags", "limit", "sample_size", "hours_back", "from_timestamp", "to_timestamp", "include_payloads"),
    *("sleep_between_gets", "max_retries"),
}
_LEFT = 499


async def list_traces(state: GatewayState, request: Request) -> Response:
    """Traces that carry all the tags asked for, newest first."""
    key = await state.authenticator.authenticate(request)
    key.require_reading()
    query = Query(request, _PARAMETERS)
    _patience(query)
    wanted = _filter(query, Pick.ALL)
    await _close(state, key, wanted.ids.rollout_id)
    found = await asyncio.to_thread(state.store.find, wanted, *scope_of(key))
    return _answer(request, _sampled(found, query), query)


async def pointwise_traces(state: GatewayState, request: Request) -> Response:
    """The trace of the latest call, which holds the conversation so far; with payloads that of every call, in turn order."""
    key = await state.authenticator.authenticate(request)
    key.require_reading()
    query = Query(request, _PARAMETERS)
    wanted = _filter(query, Pick.TURNS if query.flag("include_payloads") else Pick.LATEST)
    patience, rollout_id = _patience(query), wanted.ids.rollout_id
    if rollout_id is not None:
        waited = state.rollouts.idle(*scope_of(key), rollout_id, patience)
        if await unless_client_leaves(request, waited) is None:
            return Response(status_code=_LEFT)
    await _close(state, key, rollout_id)
    found = await asyncio.to_thread(state.store.find, wanted, *scope_of(key))
    total = None
    if rollout_id is not None:
        total = await asyncio.to_thread(state.store.usage_of, rollout_id, *scope_of(key))
    return _answer(request, _sampled(found, query), query, total)


def trace_of(
    completion: Completion, *, payloads: bool = False, rollout_usage: dict[str, int] | None = None
) -> dict[str, Any]:
    """One completion as a trace: what went in, the assistant message that came out, who it belongs to.

    Args:
        rollout_usage: tokens of all calls of its rollout, where they were asked for.
    """
    messages, tools = conversation_of(completion)
    usage = completion.usage
    ended = completion.created_at + completion.latency
    trace: dict[str, Any] = {
        "id": completion.id,
        "name": completion.model,
        "user_id": None,
        "session_id": None,
        "tags": [f"{name}:{value}" for name in _IDS if (value := getattr(completion.ids, name)) is not None],
        "timestamp": iso(completion.created_at),
        "input": {"messages": messages, "tools": tools},
        "output": completion.message,
        "metadata": {
            **vars(completion.ids),
            "model": completion.model,
            "base_model": completion.base_model,
            "policy_version": completion.policy_version,
            "turn": completion.turn,
            "index": completion.index,
            "temperature": completion.temperature,
            "finish_reason": completion.finish_reason,
            "status": completion.status.value,
            "usage": usage,
            **({"rollout_usage": rollout_usage} if rollout_usage is not None else {}),
            "latency": completion.latency,
        },
        "observations": [
            {
                "id": completion.id,
                "type": "GENERATION",
                "name": "chat.completions",
                "model": completion.model,
                "start_time": iso(completion.created_at),
                "end_time": iso(ended),
                "usage": usage,
                "model_parameters": completion.params,
            }
        ],
    }
    if payloads:
        trace["payloads"] = payloads_of(completion)
    return trace


def _filter(query: Query, pick: Pick) -> CompletionFilter:
    values: dict[str, str] = {}
    for tag in query.all("tags"):
        name, _, value = tag.partition(":")
        if name not in _IDS or not value:
            raise BadRequest(
                f"tags = {tag[:80]!r}: traces are found by {', '.join(f'{name}:ID' for name in _IDS)}.", "tags"
            )
        if values.setdefault(name, value) != value:
            raise BadRequest(f"tags name two values of {name}; a trace carries one, so none would be found.", "tags")
    since, until = query.span()
    limit = query.whole("limit", 100, 1, MOST_TRACES)
    return CompletionFilter(CorrelationIds(**values), since, until, limit, pick)


def _patience(query: Query) -> float:
    """Seconds that the client would go on asking. `list_traces`, which waits for nothing, takes the parameters too: clients send them."""
    asked = query.number("sleep_between_gets", 2.5, 0.0, 3600.0) * query.whole("max_retries", 3, 0, 10_000)
    return min(max(LEAST_WAIT, asked), LONGEST_WAIT)


def _sampled(found: list[Completion], query: Query) -> list[Completion]:
    """At most `sample_size` of what was found, drawn at random, in the order in which it was found."""
    size = query.whole("sample_size", MOST_TRACES, 1, MOST_TRACES)
    if size >= len(found):
        return found
    return [found[index] for index in sorted(random.sample(range(len(found)), size))]


async def _close(state: GatewayState, key: Key, rollout_id: str | None) -> None:
    if rollout_id is not None and await state.states.close(key.account, key.job, rollout_id, always=False) is not None:
        state.rollouts.forget((key.account, key.job, rollout_id))


def _answer(
    request: Request, found: list[Completion], query: Query, rollout_usage: dict[str, int] | None = None
) -> Response:
    payloads = query.flag("include_payloads")
    traces = [trace_of(completion, payloads=payloads, rollout_usage=rollout_usage) for completion in found]
    project = request.path_params.get("project_id") or "default"
    return JSONResponse({"project_id": project, "total_traces": len(traces), "traces": traces})
