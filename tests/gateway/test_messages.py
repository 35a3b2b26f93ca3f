"""Anthropic Messages through the real client: blocks in and out, streamed events, errors in its own envelope."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from tests.gateway.conftest import FIVE, Gateway

ADD: Any = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
CALLS = (
    'Let me. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'
)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    """With its key as `x-api-key`, and the path that it puts behind its base URL, `/v1/messages`."""
    base = f"{gateway.url}/litellm-gateway/{FIVE.format(r='r1')}"
    async with AsyncAnthropic(api_key=gateway.keys["account"], base_url=base, max_retries=0) as client:
        yield client


async def test_text_in_text_out(gateway: Gateway, client: AsyncAnthropic) -> None:
    message = await client.messages.create(
        model=gateway.base,
        max_tokens=30,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "say "}, {"type": "text", "text": "hello"}]}],
        extra_body={"temperature": 0.5},  # newer models of the API refuse it, so the client does not name it
        metadata={"user_id": "u"},
    )
    assert [block.model_dump(exclude_none=True) for block in message.content] == [{"type": "text", "text": "hello"}]
    assert (message.type, message.role, message.stop_reason, message.stop_sequence) == (
        "message",
        "assistant",
        "end_turn",
        None,
    )
    sent = gateway.engine.generated[0]
    assert gateway.engine.tokenizer.decode(sent["prompt_ids"], skip_special_tokens=False) == (
        "<s>[system]\nBe brief.</s>\n[user]\nsay hello</s>\n[assistant]\n"
    )
    assert (sent["max_tokens"], sent["temperature"]) == (30, 0.5)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (len(sent["prompt_ids"]), 6)
    (stored,) = gateway.state.store.of_rollout("r1")
    assert (stored.id, stored.params["dialect"]) == (f"{message.id}-0", "messages")


async def test_tool_uses_come_back_as_blocks_and_continue_the_sampled_ids(
    gateway: Gateway, client: AsyncAnthropic
) -> None:
    gateway.engine.answers.append(CALLS)
    asked: list[Any] = [{"role": "user", "content": "please"}]
    first = await client.messages.create(model=gateway.base, max_tokens=200, messages=asked, tools=[ADD])
    text, *uses = first.content
    assert first.stop_reason == "tool_use"
    assert [(use.name, use.input) for use in uses] == [("add", {"a": 1}), ("add", {"a": 2})]  # type: ignore[union-attr]
    results = [
        {"type": "tool_result", "tool_use_id": uses[0].id, "content": [{"type": "text", "text": "one"}]},  # type: ignore[union-attr]
        {"type": "tool_result", "tool_use_id": uses[1].id, "content": "too big", "is_error": True},  # type: ignore[union-attr]
        {"type": "text", "text": "Go on."},
    ]
    asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    gateway.engine.answers.append("three")
    second = await client.messages.create(model=gateway.base, max_tokens=200, messages=asked, tools=[ADD])
    assert second.content[0].text == "three"  # type: ignore[union-attr]
    one, two = gateway.state.store.of_rollout("r1")
    assert two.prompt_ids[: len(one.prompt_ids) + len(one.sampled_ids)] == one.prompt_ids + one.sampled_ids
    assert gateway.engine.tokenizer.decode(two.prompt_ids).endswith(
        "[tool]\none\n[tool]\nError: too big\n[user]\nGo on.\n[assistant]\n"
    )


async def test_a_stream_assembles_into_the_whole_message(gateway: Gateway, client: AsyncAnthropic) -> None:
    gateway.engine.answers.append(CALLS)
    call: Any = {
        "model": gateway.base,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "please"}],
        "tools": [ADD],
    }
    async with client.messages.stream(**call) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    whole = await client.messages.create(**call)
    assert text == "Let me."
    assert _without_ids(final) == _without_ids(whole)

    answer = await gateway.call("POST", "/v1/messages", json={**call, "stream": True})
    events = [block.split("\n") for block in answer.body.strip().split("\n\n")]
    read = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [event["type"] for event in read]
    kinds = [event["type"] for event in read]
    deltas = sum(event.get("delta", {}).get("type") == "text_delta" for event in read)
    assert deltas > 3
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == [
        "message_start",
        "ping",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        *block,
        *block,
        "message_delta",
        "message_stop",
    ]
    assert [event["index"] for event in read if event["type"] == "content_block_stop"] == [0, 1, 2]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("asked", "fields", "reason", "met"),
    [
        ("count", {"max_tokens": 5}, "max_tokens", None),
        ("say one two", {"stop_sequences": ["x", " tw"]}, "stop_sequence", " tw"),
        ("say one two", {"stop_sequences": ["x"]}, "end_turn", None),
    ],
)
async def test_why_a_message_ended(
    gateway: Gateway, client: AsyncAnthropic, asked: str, fields: dict, reason: str, met: str | None, streamed: bool
) -> None:
    call: Any = {"model": gateway.base, "max_tokens": 50, "messages": [{"role": "user", "content": asked}], **fields}
    if streamed:
        async with client.messages.stream(**call) as stream:
            message = await stream.get_final_message()
    else:
        message = await client.messages.create(**call)
    assert (message.stop_reason, message.stop_sequence) == (reason, met)


async def test_an_empty_answer_has_no_blocks_and_can_be_sent_back(gateway: Gateway, client: AsyncAnthropic) -> None:
    gateway.engine.answers.append("")
    asked: list[Any] = [{"role": "user", "content": "please"}]
    first = await client.messages.create(model=gateway.base, max_tokens=9, messages=asked)
    assert first.content == []
    asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "x"}]
    await client.messages.create(model=gateway.base, max_tokens=9, messages=asked)
    one, two = gateway.state.store.of_rollout("r1")
    assert two.prompt_ids[: len(one.prompt_ids) + len(one.sampled_ids)] == one.prompt_ids + one.sampled_ids


async def test_forced_tools_are_accepted_and_named_as_without_effect(gateway: Gateway, client: AsyncAnthropic) -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "add"}):
        raw = await client.messages.with_raw_response.create(
            model=gateway.base,
            max_tokens=50,
            messages=[{"role": "user", "content": "say hi"}],
            tools=[ADD],
            tool_choice={**choice, "disable_parallel_tool_use": True},  # type: ignore[arg-type]
            thinking={"type": "enabled", "budget_tokens": 1024},
            output_config={"effort": "low"},
        )
        named = raw.headers["x-tunesmith-ignored"]
        assert named == "thinking.budget_tokens, output_config.effort, tool_choice, parallel_tool_calls"
    (first, _) = gateway.state.store.of_rollout("r1")
    assert first.params["ignored"] == named.split(", ")


USER = [{"role": "user", "content": "x"}]
REFUSED = [
    ({"max_tokens": None}, "max_tokens", "max_tokens is required"),
    ({"messages": []}, None, "messages is empty"),
    ({"messages": [*USER, {"role": "assistant", "content": "It is"}]}, "messages", "assistant"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages", "image"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools", "web_search_20250305"),
    ({"tools": [{"input_schema": {}}]}, "tools", "name"),
    ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice", "add"),
    ({"tool_choice": {"type": "all"}, "tools": [ADD]}, "tool_choice", "all"),
    ({"thinking": {"type": "deeply"}}, "thinking", "deeply"),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers", "mcp_servers"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config", "output_config.format"),
    ({"stop": ["x"]}, "stop", "stop"),
    ({"stop_sequences": [""]}, "stop_sequences", "stop_sequences"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED)
async def test_errors_come_in_the_envelope_of_the_dialect(
    gateway: Gateway, fields: dict, param: str | None, words: str
) -> None:
    body = {"model": gateway.base, "max_tokens": 5, "messages": USER, **fields}
    answer = await gateway.call("POST", "/v1/messages", json=body)
    assert (answer.status, answer.body["type"], answer.body["error"].get("param")) == (400, "error", param)
    assert answer.body["error"]["type"] == "invalid_request_error"
    assert words in answer.body["error"]["message"]
    assert gateway.engine.generated == []


async def test_the_client_raises_its_own_errors(gateway: Gateway, client: AsyncAnthropic) -> None:
    call: Any = {"max_tokens": 5, "messages": USER}
    with pytest.raises(anthropic.NotFoundError, match="looked in"):
        await client.messages.create(model="accounts/nobody/models/nothing", **call)
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="nonsense").messages.create(model=gateway.base, **call)
    call["messages"] = [{"role": "user", "content": "die hard"}]
    with pytest.raises(anthropic.APIStatusError, match="stopped answering"):
        async with client.messages.stream(model=gateway.base, **call) as stream:
            await stream.get_final_message()


def _without_ids(message: Any) -> dict[str, Any]:
    content = [{**block.model_dump(exclude_none=True), "id": None} for block in message.content]
    return {**message.model_dump(exclude_none=True), "id": None, "content": content}
