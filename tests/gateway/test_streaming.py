"""Streamed chat completions: OpenAI's own helper assembles exactly the message that an unstreamed call answers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from tunesmith.gateway import models
from tunesmith.rendering import Renderer
from tunesmith.rendering.parsing import CallSyntax, Syntax

from tests.gateway.conftest import FIVE, Gateway

ADD: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": "é", "b": [1, {}]}}</tool_call>'
ANSWERS = {
    "text": "Hello, wörld 🙂",
    "empty": "",
    "call": CALL,
    "text and call": "Let me. " + CALL,
    "parallel calls": "Let me.\n" + CALL + "\n" + CALL.replace("add", "sub"),
    "no valid call": "Look: <tool_call>{not json}</tool_call> done",
    "half a call": "Look: <tool_ca",
    "reasoning and text": "<think>Well, é.</think>\n\nFour.",
    "reasoning and calls": "<think>Well.</think>\n\n" + CALL + CALL,
    "reasoning, text and call": "<think>Well.</think>\n\nLet me. " + CALL,
    "reasoning alone": "<think>Well.</think>",
}


@pytest.fixture
def with_reasoning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's family writes reasoning in front of its answers."""
    load = Renderer.load

    def loaded(*arguments: Any) -> Renderer:
        return dataclasses.replace(load(*arguments), syntax=Syntax(CallSyntax.HERMES, reasoning=True))

    monkeypatch.setattr(models.Renderer, "load", loaded)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    base = f"{gateway.url}/{FIVE.format(r='r1')}"
    async with AsyncOpenAI(api_key=gateway.keys["account"], base_url=base, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("name", ANSWERS)
async def test_the_streamed_message_is_the_whole_one(
    with_reasoning: None, gateway: Gateway, client: AsyncOpenAI, name: str
) -> None:
    gateway.engine.answers.append(ANSWERS[name])
    call: Any = {"model": gateway.base, "messages": [{"role": "user", "content": "please"}], "tools": [ADD]}
    call |= {"max_tokens": 400, "logprobs": True}
    whole = (await client.chat.completions.create(**call)).choices[0]
    async with client.chat.completions.stream(**call) as stream:
        async for _ in stream:
            pass
        streamed = (await stream.get_final_completion()).choices[0]
    assert _message(streamed.message) == _message(whole.message)
    assert streamed.finish_reason == whole.finish_reason
    assert streamed.logprobs is not None
    assert whole.logprobs is not None
    assert streamed.logprobs.content == whole.logprobs.content

    message = _message(whole.message)
    assert ("reasoning_content" in message) is name.startswith("reasoning")
    assert len(message.get("tool_calls") or []) == {"call": 1, "calls": 2}.get(name.split()[-1], 0) * (
        "half" not in name and "valid" not in name
    )
    assert "think>" not in (message.get("content") or "")


async def test_reasoning_and_text_arrive_while_they_are_sampled(with_reasoning: None, gateway: Gateway) -> None:
    gateway.engine.answers.append(ANSWERS["reasoning, text and call"])
    chunks = await gateway.stream("please", tools=[ADD])
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    kinds = [next(iter(delta), None) for delta in deltas]
    order = [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]
    assert order == ["role", "reasoning_content", "content", "tool_calls", None]
    assert kinds.count("reasoning_content") > 3
    assert kinds.count("content") > 3
    opened, arguments = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert opened.keys() == {"index", "id", "type", "function"}
    assert opened["function"] == {"name": "add", "arguments": ""}
    assert arguments.keys() == {"index", "function"}


async def test_deprecated_functions_stream_their_call(gateway: Gateway) -> None:
    gateway.engine.answers.append(CALL)
    chunks = await gateway.stream("please", functions=[ADD["function"]])
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    (called,) = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert called == {"name": "add", "arguments": '{"a": "é", "b": [1, {}]}'}
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


async def test_options_without_effect_are_named_in_a_streamed_answer_too(gateway: Gateway) -> None:
    answer = await gateway.chat(tools=[ADD], tool_choice="required", stream=True)
    assert answer.headers["x-tunesmith-ignored"] == "tool_choice"


def _message(message: Any) -> dict[str, Any]:
    """A message without the ids of its calls and what only the helper adds. Content that is null is not there in a stream."""
    dumped = message.model_dump(exclude_none=True)
    dumped.pop("parsed", None)
    for call in dumped.get("tool_calls") or []:
        call["id"], call["index"] = "call_" * call["id"].startswith("call_"), None
        call["function"].pop("parsed_arguments", None)
    return dumped
