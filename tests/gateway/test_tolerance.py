"""What real agents send: bodies of the published clients and of agent frameworks, each answered as its sender expects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.conftest import FIVE, Gateway

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
NULLS: dict[str, Any] = dict.fromkeys(
    [
        "reasoning_content",
        "name",
        "tool_call_id",
        "tool_calls",
        "function_call",
        "control_plane_step",
        "weight",
        "logprobs",
    ]
)
"""Keys that eval-protocol's messages carry whether they have values or not."""


def prompt(gateway: Gateway, number: int = -1) -> str:
    """What the engine was given, as text on one line."""
    sent = gateway.engine.generated[number]
    return gateway.engine.tokenizer.decode(sent["prompt_ids"]).replace("\n", "|")


@pytest.mark.parametrize("route", ["chat/completions", "v1/chat/completions"])
async def test_an_agent_server_of_the_published_client(gateway: Gateway, route: str) -> None:
    """As a server built on the quickstart sends it: prefixed model, null parameters, eight null keys a message."""
    body = {
        "model": f"fireworks_ai/{gateway.base}",
        "messages": [
            {"role": "system", "content": "Be brief.", **NULLS},
            {"role": "user", "content": "say hi", **NULLS},
        ],
        **dict.fromkeys(["max_tokens", "temperature", "top_p", "tools", "tool_choice", "stream", "reasoning_effort"]),
        **dict.fromkeys(["stop", "n", "logprobs", "response_format", "user", "seed", "metadata"]),
    }
    url = f"/litellm-gateway/{FIVE.format(r='r')}/encoded_base_url/aHR0cDovL2xvY2FsaG9zdA==/{route}"
    answer = await gateway.call("POST", url, json=body)
    assert answer.status == 200, answer.body
    assert answer.body["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert prompt(gateway) == "[system]|Be brief.|[user]|say hi|[assistant]|"


async def test_values_in_the_keys_of_the_published_client(gateway: Gateway) -> None:
    """As eval-protocol sends messages back that were scored and trained before."""
    messages = [
        {"role": "user", "content": "one", "name": "ann", "weight": 1, "control_plane_step": {"reward": 0.5}},
        {"role": "assistant", "content": "two", "weight": 0, "logprobs": {"content": [{"logprob": -0.5}]}},
        {"role": "user", "content": "say hi"},
    ]
    assert (await gateway.chat(messages=messages)).status == 200
    assert prompt(gateway) == "[user]|one|[assistant]|two|[user]|say hi|[assistant]|"


@pytest.mark.parametrize("content", [None, "", []], ids=["null", "empty", "no parts"])
@pytest.mark.parametrize("spelling", ["tool_calls", "function_call"])
async def test_tool_calls_come_back_without_content_and_results_in_parts(
    gateway: Gateway, content: Any, spelling: str
) -> None:
    gateway.engine.answers.append(CALL)
    path = "/" + FIVE.format(r="r")
    first = await gateway.chat("please", path=path, tools=[TOOL])
    (call,) = first.body["choices"][0]["message"]["tool_calls"]
    calls = {"tool_calls": [{**call, "index": 0}]} if spelling == "tool_calls" else {"function_call": call["function"]}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "please"}]},
        {**NULLS, "role": "assistant", "content": content, "refusal": None, **calls},
        {
            "role": "tool" if spelling == "tool_calls" else "function",
            "tool_call_id": call["id"],
            "name": "add",
            "content": [{"type": "text", "text": "on"}, {"type": "text", "text": "e"}],
        },
    ]
    assert (await gateway.chat(path=path, messages=messages, tools=[TOOL])).status == 200
    one, two = gateway.state.store.of_rollout("r")
    known = one.prompt_ids + one.sampled_ids
    assert two.prompt_ids[: len(known)] == known, "the turn was recognized and its ids kept"
    assert prompt(gateway).endswith("[tool]|one|[assistant]|")


async def test_deprecated_functions_are_tools_and_get_their_own_answer(gateway: Gateway) -> None:
    gateway.engine.answers.append("Let me. " + CALL)
    answer = await gateway.chat("please", functions=[TOOL["function"]], function_call="auto")
    (choice,) = answer.body["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "add", "arguments": '{"a": 1}'}
    await gateway.chat("please", tools=[TOOL])
    assert prompt(gateway, 0) == prompt(gateway, 1)
    plain = await gateway.chat("please", functions=[TOOL["function"]], function_call="none")
    assert plain.body["choices"][0]["message"]["content"] == "Let me. " + CALL


async def test_developer_is_system_and_reasoning_has_two_names(gateway: Gateway) -> None:
    for role, name in (("developer", "reasoning"), ("system", "reasoning_content")):
        messages = [
            {"role": role, "content": "Be brief."},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", name: "because"},
            {"role": "user", "content": "say hi"},
        ]
        assert (await gateway.chat(messages=messages)).status == 200
    assert prompt(gateway, 0) == prompt(gateway, 1)
    first, second = [completion["prompt_ids"] for completion in gateway.engine.generated]
    assert first == second


async def test_what_agent_frameworks_add_is_accepted(gateway: Gateway) -> None:
    answer = await gateway.chat(
        metadata={"trace": "1"},
        user="u",
        store=False,
        parallel_tool_calls=True,
        stream_options={"include_usage": True},
        extra_headers={"Authorization": "Bearer secret"},
        api_key="secret",
        timeout=600,
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        verbosity="medium",
        response_format={"type": "text"},
    )
    assert answer.status == 200, answer.body
    assert "x-tunesmith-ignored" not in answer.headers


async def test_credentials_in_a_body_are_not_recorded(gateway: Gateway) -> None:
    await gateway.chat(path="/" + FIVE.format(r="r"), api_key="sk-secret", extra_headers={"Authorization": "sk-secret"})
    (stored,) = gateway.state.store.of_rollout("r")
    assert "sk-secret" not in str(stored)
    assert stored.request["model"] == gateway.base


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": "required", "parallel_tool_calls": False}, "tool_choice, parallel_tool_calls"),
    ],
)
async def test_forced_calls_are_accepted_and_named_as_without_effect(
    gateway: Gateway, fields: dict[str, Any], named: str
) -> None:
    path = "/" + FIVE.format(r="r")
    assert (await gateway.chat("say hi", path=path, tools=[TOOL])).status == 200
    answer = await gateway.chat("say hi", path=path, tools=[TOOL], **fields)
    assert answer.status == 200, answer.body
    assert answer.headers["x-tunesmith-ignored"] == named
    free, forced = gateway.state.store.of_rollout("r")
    assert forced.prompt_ids == free.prompt_ids
    assert ", ".join(forced.params["ignored"]) == named
    assert "ignored" not in free.params


async def test_the_order_of_a_tools_keys_and_strict_do_not_change_the_prompt(gateway: Gateway) -> None:
    turned = {"strict": True, "parameters": {"type": "object"}, "description": "Adds.", "name": "add"}
    for tool in (TOOL, {"function": turned, "type": "function"}):
        assert (await gateway.chat(tools=[tool])).status == 200
    assert prompt(gateway, 0) == prompt(gateway, 1)
