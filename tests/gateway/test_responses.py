"""OpenAI Responses through the real client: items in and out, streamed events, what the past of a response is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.conftest import FIVE, Gateway

ADD = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": True}
CALLS = (
    'Let me. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'
)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    base = f"{gateway.url}/{FIVE.format(r='r1')}/v1"
    async with AsyncOpenAI(api_key=gateway.keys["account"], base_url=base, max_retries=0) as client:
        yield client


async def events_of(gateway: Gateway, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed call, their names checked against their types and their numbers against their order."""
    answer = await gateway.call("POST", "/v1/responses", json={"model": gateway.base, "stream": True, **body})
    assert answer.status == 200, answer.body
    events = []
    for block in answer.body.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_text_in_text_out(gateway: Gateway, client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="fireworks_ai/" + gateway.base,
        input="say hello",
        instructions="Be brief.",
        max_output_tokens=30,
        temperature=0.5,
        metadata={"k": "v"},
    )
    assert response.output_text == "hello"
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert (response.instructions, response.metadata, response.temperature) == ("Be brief.", {"k": "v"}, 0.5)
    sent = gateway.engine.generated[0]
    assert gateway.engine.tokenizer.decode(sent["prompt_ids"], skip_special_tokens=False) == (
        "<s>[system]\nBe brief.</s>\n[user]\nsay hello</s>\n[assistant]\n"
    )
    assert (sent["max_tokens"], sent["temperature"]) == (30, 0.5)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (len(sent["prompt_ids"]), 6)
    (stored,) = gateway.state.store.of_rollout("r1")
    assert stored.id == f"{response.id}-0"
    assert stored.params["dialect"] == "responses"
    assert [message["role"] for message in stored.request["messages"]] == ["system", "user"]


async def test_calls_come_back_as_items_and_continue_the_sampled_ids(gateway: Gateway, client: AsyncOpenAI) -> None:
    gateway.engine.answers.append(CALLS)
    first = await client.responses.create(model=gateway.base, input="please", tools=[ADD])  # type: ignore[list-item]
    message, *calls = first.output
    assert [item.type for item in first.output] == ["message", "function_call", "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [("add", '{"a": 1}'), ("add", '{"a": 2}')]  # type: ignore[union-attr]
    assert len({item.id for item in first.output}) == 3

    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "please"}]}]
    items += [item.model_dump() for item in first.output]
    items.append({"type": "function_call_output", "call_id": calls[0].call_id, "output": "one"})  # type: ignore[union-attr]
    output = [{"type": "input_text", "text": "t"}, {"type": "input_text", "text": "wo"}]
    items.append({"type": "function_call_output", "call_id": calls[1].call_id, "output": output})  # type: ignore[union-attr]
    gateway.engine.answers.append("three")
    second = await client.responses.create(model=gateway.base, input=items, tools=[ADD])  # type: ignore[list-item]
    assert second.output_text == "three"
    one, two = gateway.state.store.of_rollout("r1")
    assert two.prompt_ids[: len(one.prompt_ids) + len(one.sampled_ids)] == one.prompt_ids + one.sampled_ids
    assert gateway.engine.tokenizer.decode(two.prompt_ids).endswith("[tool]\none\n[tool]\ntwo\n[assistant]\n")


async def test_a_stream_has_every_event_in_order_and_ends_in_the_whole_response(
    gateway: Gateway, client: AsyncOpenAI
) -> None:
    gateway.engine.answers.append(CALLS)
    tools: Any = [ADD]
    async with client.responses.stream(model=gateway.base, input="please", tools=tools) as stream:
        streamed = [event async for event in stream]
        final = await stream.get_final_response()
    whole = await client.responses.create(model=gateway.base, input="please", tools=tools)
    assert [_content(item.model_dump()) for item in final.output] == [
        _content(item.model_dump()) for item in whole.output
    ]
    text = "".join(event.delta for event in streamed if event.type == "response.output_text.delta")
    assert text == "Let me."

    events = await events_of(gateway, input="please", tools=tools)
    kinds = [event["type"].removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert deltas > 3
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * deltas,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        *call,
        *call,
        "completed",
    ]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["item"] for event in done] == events[-1]["response"]["output"]
    assert [event["output_index"] for event in done] == [0, 1, 2]
    assert events[0]["response"]["output"] == []


async def test_a_stream_of_calls_alone_opens_no_message(gateway: Gateway) -> None:
    gateway.engine.answers.append(CALLS.removeprefix("Let me. "))
    events = await events_of(gateway, input="please", tools=[ADD])
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["function_call"] * 2
    assert not [event for event in events if "content_part" in event["type"]]


async def test_an_empty_answer_is_an_empty_message(gateway: Gateway) -> None:
    gateway.engine.answers.append("")
    events = await events_of(gateway, input="please")
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")
    assert [event["type"] for event in events].count("response.output_item.done") == 1


async def test_a_response_cut_by_the_token_limit_is_incomplete(gateway: Gateway, client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=gateway.base, input="count", max_output_tokens=5)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]
    events = await events_of(gateway, input="count", max_output_tokens=5)
    assert events[-1]["type"] == "response.incomplete"


async def test_log_probabilities_streamed_and_whole(gateway: Gateway, client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model=gateway.base, input="say hi", include=["message.output_text.logprobs"], top_logprobs=2
    )
    part = response.output[0].content[0]  # type: ignore[union-attr, index]
    assert [(item.token, len(item.top_logprobs)) for item in part.logprobs] == [("h", 2), ("i", 2), ("</s>", 2)]  # type: ignore[union-attr]
    events = await events_of(gateway, input="say hi", top_logprobs=2)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [[item["token"] for item in event["logprobs"]] for event in deltas] == [["h"], ["i"]]
    (done,) = [event for event in events if event["type"] == "response.output_text.done"]
    assert [item["token"] for item in done["logprobs"]] == ["h", "i", "</s>"]


async def test_a_previous_response_is_continued_without_its_instructions(gateway: Gateway, client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=gateway.base, input="say one", instructions="Old.")
    second = await client.responses.create(
        model=gateway.base, input="say two", instructions="New.", previous_response_id=first.id
    )
    await client.responses.create(model=gateway.base, input="say three", previous_response_id=second.id)
    prompts = [gateway.engine.tokenizer.decode(sent["prompt_ids"]) for sent in gateway.engine.generated]
    assert prompts[1].replace("\n", "|") == "[system]|New.|[user]|say one|[assistant]|one|[user]|say two|[assistant]|"
    assert prompts[2].replace("\n", "|") == (
        "[user]|say one|[assistant]|one|[user]|say two|[assistant]|two|[user]|say three|[assistant]|"
    )


async def test_a_previous_response_that_is_nobodys_anothers_or_not_kept_is_404(
    gateway: Gateway, client: AsyncOpenAI
) -> None:
    kept = await client.responses.create(model=gateway.base, input="say one")
    not_kept = await client.responses.create(model=gateway.base, input="say one", store=False)
    for id in ("resp_none", not_kept.id):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model=gateway.base, input="x", previous_response_id=id)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    body = {"model": gateway.base, "input": "x", "previous_response_id": kept.id}
    assert (await gateway.call("POST", "/v1/responses", "other_account", json=body)).status == 404


async def test_items_that_are_only_referred_to_are_read_back(gateway: Gateway, client: AsyncOpenAI) -> None:
    """As the AI SDK sends past output."""
    gateway.engine.answers.append(CALLS)
    tools: Any = [ADD]
    first = await client.responses.create(model=gateway.base, input="please", tools=tools)
    calls: list[Any] = list(first.output[1:])
    items: list[Any] = [{"role": "user", "content": "please"}]
    items += [{"type": "item_reference", "id": item.id} for item in first.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "x"} for call in calls]
    await client.responses.create(model=gateway.base, input=items, tools=tools)
    one, two = gateway.state.store.of_rollout("r1")
    known = one.prompt_ids + one.sampled_ids
    assert two.prompt_ids[: len(known)] == known
    for id in ("msg_none", first.output[0].id.replace("msg", "rs"), calls[1].id.replace("_1", "_2"), None):  # type: ignore[union-attr]
        body = {"model": gateway.base, "input": [{"type": "item_reference", "id": id}]}
        answer = await gateway.call("POST", "/v1/responses", json=body)
        assert (answer.status, answer.body["error"]["code"]) == (404, "item_not_found")


REFUSED = [
    ({"tools": [{"type": "web_search"}]}, "tools", "web_search"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text", "text.format"),
    ({"background": True}, "background", "background"),
    ({"truncation": "auto"}, "truncation", "truncation"),
    ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens"),
    ({"input": [{"type": "computer_call"}]}, "input", "computer_call"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input", "input_image"),
    ({"input": None}, "input", "input is required"),
    ({"input": []}, None, "messages is empty"),
    ({"frequency_penalty": 1}, "frequency_penalty", "frequency_penalty"),
    ({"temprature": 1}, "temprature", "temprature"),
    ({"prompt": {"id": "p"}}, "prompt", "prompt"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED)
async def test_what_cannot_be_honoured_is_400_by_name(gateway: Gateway, fields: dict, param: str, words: str) -> None:
    answer = await gateway.call("POST", "/v1/responses", json={"model": gateway.base, "input": "x", **fields})
    assert (answer.status, answer.body["error"]["param"]) == (400, param)
    assert words in answer.body["error"]["message"]
    assert gateway.engine.generated == []


async def test_an_engine_lost_in_the_middle_fails_the_response(gateway: Gateway) -> None:
    events = await events_of(gateway, input="die hard")
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "failed"
    assert "stopped answering" in events[-1]["response"]["error"]["message"]


def _content(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what differs from call to call, and what only the client's helper adds."""
    return {key: value for key, value in item.items() if key not in ("id", "call_id", "parsed_arguments")} | {
        "content": [{**part, "parsed": None} for part in item.get("content") or []]
    }
