"""`GET …/traces` and `…/traces/pointwise`: every completion as a trace, payloads in their binary forms, closing, waiting for calls."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest
import zstandard
from tunesmith.db import captured
from tunesmith.db.completions import Completion, CompletionStatus, CorrelationIds
from tunesmith.gateway.payloads import payloads_of
from tunesmith.gateway.traces import trace_of

from tests.gateway.conftest import FIVE, Gateway
from tests.gateway.test_logs import FINISHED, post

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def ids(rollout: str) -> str:
    return "/litellm-gateway/" + FIVE.format(r=rollout)


async def traces(gateway: Gateway, query: str, key: str = "account", path: str = "/v1/traces/pointwise") -> list[Any]:
    answer = await gateway.call("GET", f"{path}?{query}", key)
    assert answer.status == 200, answer.body
    assert answer.body["total_traces"] == len(answer.body["traces"])
    return answer.body["traces"]


async def turns(gateway: Gateway, rollout: str, count: int, key: str = "account", **fields: Any) -> list[Any]:
    """An agent's conversation of `count` turns; returns its messages."""
    history: list[dict[str, Any]] = []
    for number in range(count):
        history.append({"role": "user", "content": f"say turn {number}"})
        answer = await gateway.chat(path=ids(rollout), key=key, messages=history, **fields)
        assert answer.status == 200, answer.body
        history.append(answer.body["choices"][0]["message"])
    return history


def unpacked(payload: dict[str, Any]) -> bytes:
    """base64 of one zstd frame; decompressing needs the content size in its header."""
    frame = base64.b64decode(payload["data"], validate=True)
    assert zstandard.get_frame_parameters(frame).content_size > 0
    return zstandard.ZstdDecompressor().decompress(frame)


def decoded_logprobs(payload: dict[str, Any]) -> tuple[list[int], list[float]]:
    """LP/v1 as its description says it, written apart from the code under test."""
    content = unpacked(payload)
    magic, version, flags, reserved, count, length, more = struct.unpack_from("<4sBBHIIQ", content)
    assert (magic, version, flags, reserved, more) == (b"LP01", 1, 0, 0, 0)
    assert len(content) == 24 + length == 24 + 8 * count
    pairs = [struct.unpack_from("<if", content, 24 + 8 * index) for index in range(count)]
    return [id for id, _ in pairs], [logprob for _, logprob in pairs]


async def test_the_latest_call_is_the_whole_conversation(gateway: Gateway) -> None:
    history = await turns(gateway, "r", 3, tools=TOOLS, metadata=None)
    (trace,) = await traces(gateway, "limit=100&tags=rollout_id:r&sleep_between_gets=0.1&max_retries=5")
    assert trace["input"] == {"messages": history[:-1], "tools": TOOLS}
    assert {key: value for key, value in trace["output"].items() if value is not None} == {
        key: value for key, value in history[-1].items() if value is not None
    }
    assert trace["output"]["role"] == "assistant"
    assert trace["output"]["content"] == "turn 2"
    names = ("rollout_id:r", "invocation_id:inv", "experiment_id:exp", "run_id:run", "row_id:row")
    assert sorted(trace["tags"]) == sorted(names)
    assert trace["metadata"]["model"] == gateway.base
    assert trace["metadata"]["turn"] == 2
    assert trace["metadata"]["finish_reason"] == "stop"
    assert trace["metadata"]["usage"]["completion_tokens"] > 0
    assert trace["metadata"]["latency"] > 0
    (observation,) = trace["observations"]
    assert observation["type"] == "GENERATION"
    assert observation["start_time"] == trace["timestamp"] < observation["end_time"]
    assert "payloads" not in trace


async def test_of_several_candidates_pointwise_gives_the_first_and_traces_all(gateway: Gateway) -> None:
    await turns(gateway, "r", 1, n=3, temperature=1.0)
    (trace,) = await traces(gateway, "tags=rollout_id:r")
    assert trace["metadata"]["index"] == 0
    assert len(await traces(gateway, "tags=rollout_id:r", path="/traces")) == 3


async def test_payloads_hold_exactly_what_was_recorded_of_every_turn(gateway: Gateway) -> None:
    name = await gateway.publish()
    await turns(gateway, "r", 3, "rollout", model=name)
    found = await traces(gateway, "tags=rollout_id:r&include_payloads=True", "rollout")
    recorded = (await gateway.call("GET", "/internal/rollouts/r/completions", "run")).body["completions"]
    assert [trace["metadata"]["turn"] for trace in found] == [0, 1, 2]
    for trace, completion in zip(found, recorded, strict=True):
        assert json.loads(unpacked(trace["payloads"]["prompt_token_ids"])) == completion["prompt_ids"]
        assert decoded_logprobs(trace["payloads"]["logprobs"]) == (completion["sampled_ids"], completion["logprobs"])
        assert trace["payloads"]["logprobs"]["manifest"]["token_count"] == len(completion["sampled_ids"])
        assert trace["metadata"]["policy_version"] == 0


def passed(dialect: str, request: dict[str, Any]) -> Completion:
    """A passed-through completion, as it is recorded: the body as it came, no ids."""
    fields: dict[str, Any] = {"model": "m", "base_model": "https://up", "policy_version": None, "temperature": 1.0}
    fields |= {"prompt_ids": [], "sampled_ids": [], "logprobs": [], "finish_reason": "stop", "text": "", "message": {}}
    fields |= {"usage": {"prompt_tokens": 5, "completion_tokens": 2}, "latency": 0.1}
    fields |= {"request": request, "params": {"dialect": dialect}, "status": CompletionStatus.COMPLETE}
    return Completion("i", 1.0, "a", None, CorrelationIds(), 0, 0, **fields)


def test_a_completion_without_ids_has_no_payloads() -> None:
    completion = passed("chat", {})
    assert payloads_of(completion) == {}
    assert trace_of(completion, payloads=True)["payloads"] == {}
    assert completion.tokens == 7


@pytest.mark.parametrize(
    ("dialect", "request_", "messages", "tools"),
    [
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, [("user", "x")], None),
        ("responses", {"input": "x", "instructions": "be"}, [("system", "be"), ("user", "x")], None),
        (
            "responses",
            {"input": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "name": "f", "strict": True}]},
            [("user", "x")],
            [{"type": "function", "function": {"name": "f"}}],
        ),
        ("responses", {"input": [{"type": "of_tomorrow"}]}, [("user", '[{"type": "of_tomorrow"}]')], None),
        (
            "messages",
            {"model": "m", "system": "be", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            [("system", "be"), ("user", "x")],
            None,
        ),
        ("messages", {"messages": [3]}, [("user", "[3]")], None),
        ("responses", {"input": 5}, [("user", "5")], None),
        ("responses", {"input": "x", "tools": ["y"]}, [("user", '"x"')], ["y"]),
    ],
)
def test_passed_through_calls_are_traced_in_chat_form(dialect, request_, messages, tools) -> None:
    trace = trace_of(passed(dialect, request_))
    assert [(message["role"], message["content"]) for message in trace["input"]["messages"]] == messages
    assert trace["input"]["tools"] == tools


async def test_tags_times_limits_and_samples_narrow(gateway: Gateway) -> None:
    for rollout in ("r", "s"):
        await turns(gateway, rollout, 2)
    await gateway.chat("say hi")
    everything = await traces(gateway, "", path="/v1/project_id/p/traces")
    assert [trace["metadata"]["turn"] for trace in everything] == [0, 1, 0, 1, 0]
    assert [trace["tags"][:1] for trace in everything] == [[], *[["rollout_id:s"]] * 2, *[["rollout_id:r"]] * 2]
    listed = "/traces"
    assert len(await traces(gateway, "tags=rollout_id:r&tags=invocation_id:inv", path=listed)) == 2
    assert len(await traces(gateway, "tags=run_id:run&limit=3", path=listed)) == 3
    assert len(await traces(gateway, "tags=row_id:row&sample_size=3", path=listed)) == 3
    assert await traces(gateway, "tags=experiment_id:other", path=listed) == []
    assert await traces(gateway, "hours_back=0", path=listed) == []
    assert len(await traces(gateway, "hours_back=24", path=listed)) == 5
    assert await traces(gateway, "from_timestamp=2100-01-01T00:00:00Z", path=listed) == []
    assert len(await traces(gateway, "to_timestamp=2100-01-01", path=listed)) == 5
    latest = await traces(gateway, "tags=invocation_id:inv")
    assert [(trace["tags"][0], trace["metadata"]["turn"]) for trace in latest] == [
        ("rollout_id:s", 1),
        ("rollout_id:r", 1),
    ]
    newest_two = await traces(gateway, "tags=rollout_id:r&include_payloads=true&limit=1")
    assert [trace["metadata"]["turn"] for trace in newest_two] == [1]
    assert await traces(gateway, "tags=rollout_id:nobody") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("tags=rollout:r", "rollout_id:ID"),
        ("tags=rollout_id:", "rollout_id:ID"),
        ("tags=rollout_id:a&tags=rollout_id:b", "two values"),
        ("limit=0", "limit"),
        ("include_payloads=perhaps", "include_payloads"),
        ("user_id=u", "user_id"),
        ("max_retries=-1", "max_retries"),
    ],
)
async def test_errors_have_a_detail(gateway: Gateway, query: str, says: str) -> None:
    for path in ("/traces", "/v1/traces/pointwise"):
        answer = await gateway.call("GET", f"{path}?{query}")
        assert answer.status == 400
        assert says in answer.body["detail"]
    assert (await gateway.call("GET", "/traces", None)).body["detail"].startswith("No API key")


async def test_more_than_one_answer_may_hold_is_refused_and_less_of_it_is_not(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await gateway.chat("say hi", ids("large"), user="x" * 2000)
        line = {"message": "x" * 2000, "tags": ["rollout_id:large"]}
        assert (await gateway.call("POST", "/logs", json=line)).status == 200
    monkeypatch.setattr(captured, "LARGEST_ANSWER", 5000)
    for path in ("/traces", "/logs"):
        refused = await gateway.call("GET", f"{path}?tags=rollout_id:large")
        assert refused.status == 400
        assert "at most 5,000 are read at once" in refused.body["detail"]
        assert (await gateway.call("GET", f"{path}?tags=rollout_id:large&limit=1")).status == 200


async def test_two_jobs_do_not_see_each_others_traces(gateway: Gateway) -> None:
    name = await gateway.publish()
    await turns(gateway, "r", 1, "rollout", model=name)
    for path in ("/traces", "/traces/pointwise"):
        seen = {key: len(await traces(gateway, "tags=rollout_id:r", key, path)) for key in gateway.keys}
        assert seen == {"rollout": 1, "run": 1, "account": 1, "internal": 1, "other_run": 0, "other_account": 0}


@pytest.mark.parametrize(
    ("code", "closed"), [(100, True), (0, True), (102, True), (13, False), (101, False), (None, False)]
)
async def test_fetching_closes_a_rollout_that_ended_without_an_error(
    gateway: Gateway, code: int | None, closed: bool
) -> None:
    name = await gateway.publish()
    await turns(gateway, "r", 1, "rollout", model=name)
    await post(gateway, status=None if code is None else {"code": code})
    await traces(gateway, "tags=invocation_id:inv", "rollout")
    assert (await gateway.chat("say hi", ids("r"), "rollout", model=name)).status == 200
    await post(gateway, status=None if code is None else {"code": code})
    assert len(await traces(gateway, "tags=rollout_id:r", "rollout")) == 1
    again = await gateway.chat("say hi", ids("r"), "rollout", model=name)
    assert again.status == (409 if closed else 200)
    assert len(await traces(gateway, "tags=rollout_id:r", "rollout")) == 1  # reading goes on


async def test_pointwise_waits_for_a_call_in_flight(gateway: Gateway) -> None:
    await turns(gateway, "r", 1)
    gateway.engine.slow_seconds = 0.01
    calling = asyncio.create_task(gateway.chat("slow", ids("r"), max_tokens=40))
    while not gateway.state.rollouts._in_flight:
        await asyncio.sleep(0.005)
    (trace,) = await traces(gateway, "tags=rollout_id:r&sleep_between_gets=0.1&max_retries=1")
    assert (await calling).status == 200
    assert trace["metadata"]["turn"] == 1
    assert gateway.state.rollouts._in_flight == {}


async def test_pointwise_stops_waiting_when_its_client_leaves_and_when_its_time_is_over(gateway: Gateway) -> None:
    turn = await gateway.state.rollouts.begin(("accounts/local", None, "r"))
    assert not await gateway.state.rollouts.idle("accounts/local", None, "r", 0.05)
    assert await gateway.state.rollouts.idle("accounts/local", "job2", "r", 0.05)
    asking = asyncio.create_task(traces(gateway, "tags=rollout_id:r&sleep_between_gets=1&max_retries=300"))
    while not any(gateway.state.rollouts._idle.values()):
        await asyncio.sleep(0.005)
    asking.cancel()
    async with asyncio.timeout(5):
        while any(gateway.state.rollouts._idle.values()):
            await asyncio.sleep(0.005)
    turn.end(used=False)
    assert await gateway.state.rollouts.idle(None, None, "r", 5)


async def test_a_streamed_rollout_is_complete_when_it_is_fetched_and_statused(gateway: Gateway) -> None:
    chunks = await gateway.stream("say hi", ids("r"))
    assert chunks
    await post(gateway, key="account", status=FINISHED)
    (trace,) = await traces(gateway, "tags=rollout_id:r")
    assert trace["output"]["content"] == "hi"
    assert trace["input"]["tools"] is None
    health = await gateway.call("GET", "/litellm-gateway/health", None)
    assert (health.status, health.body["status"]) == (200, "healthy")
