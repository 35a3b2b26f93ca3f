"""The single-turn processor over real HTTP: what it sends, what it takes, and how it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eval_protocol.errors import ModelCallError, RolloutError
from eval_protocol.models import EvaluationRow, Message
from eval_protocol.pytest import RolloutProcessorConfig, SingleTurnRolloutProcessor

from tests.sdk.conftest import FakeModel, completion


@pytest.fixture
async def processor() -> AsyncIterator[SingleTurnRolloutProcessor]:
    made = SingleTurnRolloutProcessor()
    yield made
    await made.acleanup()


def row(*roles: str) -> EvaluationRow:
    made = EvaluationRow(
        messages=[Message(role=role, content=f"{role} {i}") for i, role in enumerate(roles or ("user",))]
    )
    made.input_metadata.row_id = "w"
    ids = made.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id, ids.run_id = "r", "i", "e", "n"
    return made


async def ask(processor: SingleTurnRolloutProcessor, asked: EvaluationRow, **params: Any) -> EvaluationRow:
    [task] = processor([asked], RolloutProcessorConfig(completion_params=params))
    return await task


async def test_the_gold_answer_never_reaches_the_model(processor: SingleTurnRolloutProcessor, model: FakeModel):
    done = await ask(processor, row("system", "user", "assistant"), model="m", api_base=model.url)
    assert [message["role"] for message in model.seen[0].body["messages"]] == ["system", "user"]
    assert "assistant 2" not in json.dumps(model.seen[0].body)
    assert [message.content for message in done.messages] == ["system 0", "user 1", "user 1"]


async def test_parameters_reach_the_server_as_they_are(processor: SingleTurnRolloutProcessor, model: FakeModel):
    await ask(
        processor,
        row(),
        model="openai/m",
        api_base=f"{model.url}/v1/",
        api_key="secret",
        temperature=0.3,
        max_tokens=None,
        reasoning_effort="low",
        extra_body={"top_k": 5, "raw_output": True},
        extra_headers={"X-Team": "a"},
        timeout=5,
    )
    [seen] = model.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["Authorization"] == "Bearer secret"
    assert seen.headers["X-Team"] == "a"
    assert seen.body == {
        "model": "m",
        "temperature": 0.3,
        "reasoning_effort": "low",
        "top_k": 5,
        "raw_output": True,
        "messages": [{"role": "user", "content": "user 0"}],
    }


async def test_the_answer_is_recorded(processor: SingleTurnRolloutProcessor, model: FakeModel):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = completion(None, tool_calls=[call], reasoning_content="hm")  # type: ignore[arg-type]
    body["choices"][0] |= {"finish_reason": "tool_calls", "raw_output": {"ids": [1]}, "logprobs": {"content": []}}
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
    model.answer = lambda seen: (200, {}, body)
    asked = row()
    asked.tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    done = await ask(processor, asked, model="m", api_base=model.url)
    assert model.seen[0].body["tools"] == asked.tools
    last = done.messages[-1]
    assert (last.content, last.reasoning_content, last.tool_calls[0].id) == (None, "hm", "c1")  # type: ignore[index]
    execution = done.execution_metadata
    assert (execution.finish_reason, execution.tool_call_count, execution.raw_output) == ("tool_calls", 1, {"ids": [1]})
    assert execution.usage.model_dump()["prompt_tokens_details"] == {"cached_tokens": 4}  # type: ignore[union-attr]
    assert (execution.rollout_duration_seconds or 0) > 0
    assert done.rollout_status.get_termination_reason() == "tool_calls"


async def test_streams_are_put_together(processor: SingleTurnRolloutProcessor, model: FakeModel):
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "he"},
        {"content": "llo"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    chunks += [{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}]
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    model.answer = lambda seen: (200, {"Content-Type": "text/event-stream"}, lines.encode())
    done = await ask(processor, row(), model="m", api_base=model.url, stream=True)
    assert model.seen[0].body["stream_options"] == {"include_usage": True}
    last = done.messages[-1]
    assert last.content == "hello"
    assert last.tool_calls[0].function.arguments == '{"a":1}'  # type: ignore[index]
    assert done.execution_metadata.usage.total_tokens == 3  # type: ignore[union-attr]


async def test_a_stream_that_breaks_off_is_no_answer(processor: SingleTurnRolloutProcessor, model: FakeModel):
    line = b'data: {"choices": [{"index": 0, "delta": {"content": "he"}}]}\n\n'
    model.answer = lambda seen: (200, {"Content-Type": "text/event-stream"}, line)
    with pytest.raises(ModelCallError, match="in the middle") as caught:
        await ask(processor, row(), model="m", api_base=model.url, stream=True)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, 3, False),
        (401, 16, False),
        (404, 5, False),
        (408, 4, True),
        (409, 10, True),
        (429, 8, True),
        (503, 14, True),
    ],
)
async def test_refusals_name_model_url_status_and_message(
    processor: SingleTurnRolloutProcessor, model: FakeModel, status: int, code: int, retryable: bool
):
    model.answer = lambda seen: (status, {"Retry-After": "7"}, {"error": {"message": "no such thing", "code": "X"}})
    with pytest.raises(ModelCallError) as caught:
        await ask(processor, row(), model="m", api_base=model.url)
    assert str(caught.value) == f"{status}: no such thing (from m at {model.url}/chat/completions)"
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after) == (code, retryable, 7.0)


async def test_the_server_says_whether_to_try_again(processor: SingleTurnRolloutProcessor, model: FakeModel):
    for status, said in ((429, "false"), (400, "true")):
        model.answer = lambda seen, status=status, said=said: (status, {"x-should-retry": said}, {"error": "spent"})
        with pytest.raises(ModelCallError) as caught:
            await ask(processor, row(), model="m", api_base=model.url)
        assert caught.value.retryable is (said == "true")


async def test_other_failures_are_told_apart(processor: SingleTurnRolloutProcessor, model: FakeModel):
    with pytest.raises(ModelCallError, match="could not be reached") as unreachable:
        await ask(processor, row(), model="m", api_base="http://127.0.0.1:9")
    assert unreachable.value.retryable
    model.answer = lambda seen: (200, {}, b"<html>")
    with pytest.raises(ModelCallError, match="no chat completion: <html>") as odd:
        await ask(processor, row(), model="m", api_base=model.url)
    assert not odd.value.retryable
    model.delay = 1.0
    with pytest.raises(ModelCallError, match=r"within 0\.1 s") as slow:
        await ask(processor, row(), model="m", api_base=model.url, timeout=0.1)
    assert (slow.value.code, slow.value.retryable) == (4, True)


async def test_rows_that_cannot_be_asked(processor: SingleTurnRolloutProcessor, model: FakeModel):
    with pytest.raises(RolloutError, match="no messages"):
        await ask(processor, EvaluationRow(), model="m", api_base=model.url)
    with pytest.raises(RolloutError, match="num_runs"):
        await ask(processor, row(), model="m", api_base=model.url, n=4)
    with pytest.raises(RolloutError, match="names no model"):
        await ask(processor, row())
    assert model.seen == []


async def test_the_semaphore_bounds_what_is_in_flight(processor: SingleTurnRolloutProcessor, model: FakeModel):
    model.delay = 0.05
    config = RolloutProcessorConfig(
        completion_params={"model": "m", "api_base": model.url}, semaphore=asyncio.Semaphore(3)
    )
    await asyncio.gather(*processor([row() for _ in range(12)], config))
    assert model.busiest == 3


async def test_the_profile_gets_the_five_ids_and_the_key(
    processor: SingleTurnRolloutProcessor, model: FakeModel, profile: str
):
    await ask(processor, row(), model="accounts/tunesmith/models/tiny")
    [seen] = model.seen
    ids = "/rollout_id/r/invocation_id/i/experiment_id/e/run_id/n/row_id/w"
    assert seen.path == f"/litellm-gateway{ids}/chat/completions"
    assert seen.headers["Authorization"] == f"Bearer {profile}"
    assert seen.body["model"] == "accounts/tunesmith/models/tiny"


async def test_a_refusal_reads_the_same_for_every_rollout(
    processor: SingleTurnRolloutProcessor, model: FakeModel, profile: str
):
    model.answer = lambda seen: (401, {}, {"error": {"message": "The key is not known."}})
    said = set()
    for number in range(3):
        asked = row()
        asked.execution_metadata.rollout_id = f"honest-glacier-{number}"
        with pytest.raises(ModelCallError) as caught:
            await ask(processor, asked, model="accounts/a/models/m")
        said.add(str(caught.value))
    url = f"{model.url}/litellm-gateway/chat/completions"
    assert said == {f"401: The key is not known. (from accounts/a/models/m at {url})"}
