"""No body is answered with a 500: random JSON, and good calls of each dialect with something in them replaced."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.conftest import Gateway

TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "add", "arguments": "{}"}
GOOD: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "s"}]},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": CALL}]},
            {"role": "tool", "tool_call_id": "c", "content": "t"},
            {"role": "assistant", "content": "a", "function_call": CALL, "reasoning": "r"},
            {"role": "function", "name": "add", "content": "t"},
        ],
        "max_tokens": 3,
        "temperature": 1,
        "stop": ["x"],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {},
        "thinking": {"type": "enabled"},
        "logprobs": True,
        "n": 1,
    },
    "responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "u"}]},
            {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "t"}]},
        ],
        "instructions": "i",
        "max_output_tokens": 3,
        "tools": [{"type": "function", **TOOL, "strict": True}],
        "tool_choice": {"type": "function", "name": "add"},
        "include": ["message.output_text.logprobs"],
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}},
        "metadata": {"k": "v"},
        "previous_response_id": None,
    },
    "messages": {
        "messages": [
            {"role": "user", "content": "u"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "r", "signature": ""},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "c", "name": "add", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [{"type": "text", "text": "t"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "u"},
                ],
            },
        ],
        "max_tokens": 3,
        "system": [{"type": "text", "text": "s"}],
        "tools": [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "add"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "stop_sequences": ["x"],
        "metadata": {},
    },
}
TEXTS = st.sampled_from(
    ["", "x", "é\x00", "user", "assistant", "function", "text", "none", "/", "\ud800", "</s>", "9" * 30]
)
NUMBERS = st.sampled_from([0, -1, 1, 2, 0.5, 1e308, -1e-9, 2**31, 2**63, 10**40])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2), max_leaves=5
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a body."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, child in items for place in [(*path, key), *_places(child, (*path, key))]]


PLACES = {route: _places(body) for route, body in GOOD.items()}


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, Any]:
    """A route, and a good body of it in which up to three things were replaced or taken out, or random JSON."""
    route = draw(st.sampled_from(sorted(GOOD)))
    if draw(st.integers(0, 9)) == 0:
        return route, draw(VALUES)
    body = json.loads(json.dumps(GOOD[route]))
    body["stream"] = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(PLACES[route]))
        inside = body
        try:
            for key in path:
                inside = inside[key]
            if draw(st.booleans()):
                inside[last] = draw(VALUES)
            else:
                del inside[last]
        except (LookupError, TypeError):
            continue  # an earlier replacement took the place away
    return route, body


@pytest.mark.parametrize("route", GOOD)
async def test_the_good_bodies_are_good(gateway: Gateway, route: str) -> None:
    for streamed in (False, True):
        answer = await gateway.call(
            "POST", f"/v1/{route}", json={"model": gateway.base, **GOOD[route], "stream": streamed}
        )
        assert answer.status == 200, answer.body


WRONG: list[Any] = [None, True, 10**40, "x\x00", [], [[5]], {}, {"type": []}]


@pytest.mark.parametrize("route", GOOD)
async def test_no_wrong_value_anywhere_is_answered_with_a_500(gateway: Gateway, route: str) -> None:
    """Every value at every depth of a good body, replaced by each of the wrong ones, and taken out."""
    bodies = []
    for *path, last in PLACES[route]:
        for wrong in [*WRONG, KeyError]:
            body = {"model": gateway.base, **json.loads(json.dumps(GOOD[route])), "stream": len(bodies) % 2 == 0}
            inside: Any = body
            for key in path:
                inside = inside[key]
            if wrong is KeyError:
                del inside[last]
            else:
                inside[last] = wrong
            bodies.append(body)
    await _none_is_500(gateway, [(route, body) for body in bodies])


async def test_no_body_is_answered_with_a_500(gateway: Gateway) -> None:
    """Hypothesis calls synchronous functions, so the bodies are drawn first and sent afterwards."""
    drawn: list[tuple[str, Any]] = []

    @settings(max_examples=300, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(damaged())
    def draw(case: tuple[str, Any]) -> None:
        drawn.append(case)

    draw()
    cases = [(route, {"model": gateway.base, **body} if isinstance(body, dict) else body) for route, body in drawn]
    await _none_is_500(gateway, cases)


async def _none_is_500(gateway: Gateway, cases: list[tuple[str, Any]]) -> None:
    """Send bodies, a few at a time; none may fail inside, neither at once nor in the middle of a stream."""
    statuses: set[int] = set()

    async def send(route: str, body: Any) -> None:
        answer = await gateway.call("POST", f"/v1/{route}", data=json.dumps(body))
        statuses.add(answer.status)
        assert answer.status < 500, (route, body, answer.body)
        assert "Something failed inside" not in str(answer.body), (route, body, answer.body)

    for start in range(0, len(cases), 8):
        await asyncio.gather(*[send(route, body) for route, body in cases[start : start + 8]])
    assert statuses >= {200, 400}, "both kinds were tried"


@pytest.mark.parametrize("route", GOOD)
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"NaN", b"[" * 100_000, b'{"a":' * 300 + b"1" + b"}" * 300, b'"' + b"\\ud800" + b'"'],
)
async def test_bodies_that_are_no_json_or_too_deep_are_400(gateway: Gateway, route: str, data: bytes) -> None:
    answer = await gateway.call("POST", f"/v1/{route}", data=data)
    assert answer.status == 400
    assert answer.body["error"]["message"]
