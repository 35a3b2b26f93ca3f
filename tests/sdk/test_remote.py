"""Remote rollouts over real HTTP: an agent server under uvicorn, a gateway written from the contract, and every way of failing."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard
from aiohttp import web
from eval_protocol.data_loader import DynamicDataLoader
from eval_protocol.errors import RolloutError, UsageError
from eval_protocol.evaluation.decorator import spec_of
from eval_protocol.evaluation.progress import Lines
from eval_protocol.evaluation.runner import run_evaluation
from eval_protocol.exceptions import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownError,
    exception_for_status_code,
)
from eval_protocol.models import EvaluateResult, EvaluationRow, InputMetadata, Message, Status
from eval_protocol.models.remote import DataLoaderConfig, InitRequest
from eval_protocol.pytest import (
    BackoffConfig,
    ExceptionHandlerConfig,
    RemoteRolloutProcessor,
    RolloutProcessorConfig,
    evaluation_test,
)
from eval_protocol.results import rows_of
from eval_protocol.settings import RunSettings
from eval_protocol.tracing import agent_app

from tests.sdk.gateway_double import GatewayDouble, trace
from tests.sdk.test_agent_server import ended, serving

QUICK = ExceptionHandlerConfig(backoff_config=BackoffConfig(base_delay=0.01, max_delay=0.05))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayDouble]:
    made = GatewayDouble()
    monkeypatch.setenv("EP_MODEL_BASE_URL", made.url)
    monkeypatch.setenv("EP_REMOTE_API_KEY", "job-key")
    yield made
    made.close()


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that answers `/init` by hand."""
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/init", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def row(*messages: tuple[str, str], rollout_id: str = "r1") -> EvaluationRow:
    made = EvaluationRow(
        messages=[Message(role=role, content=text) for role, text in messages or (("user", "hi"),)],
        ground_truth="GOLD",
        input_metadata=InputMetadata(row_id="w", session_data={"mode": "pointwise"}),
    )
    ids = made.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id, ids.run_id = rollout_id, "i", "e", "n"
    return made


async def roll(processor: RemoteRolloutProcessor, asked: EvaluationRow, **more: Any) -> EvaluationRow:
    params = {"model": "accounts/a/models/m", "temperature": 0.5, **more.pop("params", {})}
    try:
        [task] = processor([asked], RolloutProcessorConfig(completion_params=params, kwargs=more))
        return await task
    finally:
        await processor.acleanup()


async def chat(request: InitRequest, messages: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A model call, as an agent makes it."""
    shown = messages or [message.dump_model_for_chat_completion_request() for message in request.messages or []]
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{request.model_base_url}/chat/completions",
            data=io.BytesIO(json.dumps({"model": request.completion_params["model"], "messages": shown}).encode()),
            headers={"Authorization": f"Bearer {request.api_key}"},
        ) as response:
            return (await response.json())["choices"][0]["message"]


async def one_call(request: InitRequest) -> None:
    await chat(request)


async def failure(processor: RemoteRolloutProcessor, **more: Any) -> RolloutError:
    with pytest.raises(RolloutError) as caught:
        await roll(processor, more.pop("asked", None) or row(), **more)
    return caught.value


async def test_a_rollout_from_init_to_row(gateway: GatewayDouble, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "eval_protocol")
    seen: list[InitRequest] = []

    async def agent(request: InitRequest) -> None:
        seen.append(request)
        said = await chat(request)
        shown = [message.dump_model_for_chat_completion_request() for message in request.messages or []]
        await chat(request, [*shown, said, {"role": "user", "content": "more"}])

    asked = row(("system", "be kind"), ("user", "hi"), ("assistant", "GOLD"))
    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=f"{url}/"), asked)
    assert done is asked
    assert [(message.role, message.content) for message in done.messages] == [
        ("system", "be kind"),
        ("user", "hi"),
        ("assistant", "turn 0"),
        ("user", "more"),
        ("assistant", "turn 1"),
    ]
    execution = done.execution_metadata
    assert (execution.rollout_id, execution.run_id, execution.experiment_id) == ("r1", "n", "e")
    assert execution.usage is not None
    assert execution.usage.total_tokens == 10
    assert execution.finish_reason == "stop"
    assert (execution.rollout_duration_seconds or 0) > 0
    assert done.rollout_status == Status.rollout_finished()
    assert done.ground_truth == "GOLD"
    assert done.input_metadata.session_data == {"mode": "pointwise", "langfuse_trace_id": "trace-r1-4"}
    assert {bearer for *_, bearer in gateway.requests} == {"job-key"}
    lines = [(record.name, record.getMessage()) for record in caplog.records if record.name.startswith("eval_protocol")]
    assert lines == [
        ("eval_protocol.pytest.remote_rollout_processor", "Found status log for rollout r1: Rollout r1 completed"),
        ("eval_protocol.pytest.remote_rollout_processor", "Found Fireworks log for rollout r1 with status code 100.0"),
        ("eval_protocol.adapters.fireworks_tracing", "Successfully converted 1 traces to evaluation rows"),
    ]


async def test_the_init_body_to_the_letter(gateway: GatewayDouble):
    bodies: list[dict[str, Any]] = []

    async def init(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        bodies.append(json.loads(await request.read()))
        return web.Response(status=400, text="enough")

    asked = row(("user", "hi"), ("assistant", "the GOLD answer"), ("assistant", "GOLD again"))
    asked.messages[0] = Message.model_validate({"role": "user", "content": "hi", "gold": "GOLD"})
    asked.tools = [{"type": "function", "function": {"name": "f"}}]
    async with answering(init) as url:
        await failure(
            RemoteRolloutProcessor(remote_base_url=url), asked=asked, params={"base_url": "https://api.example.com/v1"}
        )
    ids = {"invocation_id": "i", "experiment_id": "e", "rollout_id": "r1", "run_id": "n", "row_id": "w"}
    upstream = base64.urlsafe_b64encode(b"https://api.example.com/v1").decode()
    path = f"/rollout_id/r1/invocation_id/i/experiment_id/e/run_id/n/row_id/w/encoded_base_url/{upstream}"
    message = dict.fromkeys(
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
    assert bodies == [
        {
            "completion_params": {
                "model": "fireworks_ai/accounts/a/models/m",
                "temperature": 0.5,
                "base_url": "https://api.example.com/v1",
            },
            "messages": [{"role": "user", "content": "hi", **message}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "model_base_url": gateway.url + path,
            "metadata": ids,
            "api_key": "job-key",
        }
    ]
    assert "GOLD" not in json.dumps(bodies)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (500, InternalError, True),
        (503, UnavailableError, True),
        (429, ResourceExhaustedError, True),
        (400, InvalidArgumentError, False),
        (404, NotFoundError, False),
        (307, FailedPreconditionError, False),
        (418, FailedPreconditionError, False),
    ],
)
async def test_refusals_of_init(gateway: GatewayDouble, status: int, kind: type[RolloutError], retryable: bool):
    async def init(request: web.Request) -> web.Response:
        return web.Response(status=status, text="my words", headers={"Retry-After": "7", "Location": "http://else/"})

    async with answering(init) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url))
        assert str(error).startswith(f"The agent server {url} answered POST /init with {status}")
    assert "my words" in str(error)
    assert (type(error), error.retryable, error.retry_after) == (kind, retryable, 7.0)


async def test_a_server_that_is_down_slow_or_talks_nonsense(gateway: GatewayDouble, unused_port: int):
    down = await failure(RemoteRolloutProcessor(remote_base_url=f"http://127.0.0.1:{unused_port}"))
    assert isinstance(down, UnavailableError)
    assert down.retryable
    assert f"http://127.0.0.1:{unused_port}" in str(down)
    assert "EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL" in str(down)

    hang = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response()

    async with answering(slow) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url), init_timeout_seconds=0.1)
        hang.set()
    assert isinstance(error, DeadlineExceededError)
    assert "within 0.1 s" in str(error)

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x00\x01 no http\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(RemoteRolloutProcessor(remote_base_url=f"http://127.0.0.1:{port}"))
    assert isinstance(error, UnavailableError)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_one_that_never_finishes_keeps_what_it_did(gateway: GatewayDouble):
    called = asyncio.Event()

    async def agent(request: InitRequest) -> None:
        await chat(request)
        called.set()
        await asyncio.Event().wait()

    asked = row()
    async with serving(agent_app(agent)) as url:
        processor = RemoteRolloutProcessor(remote_base_url=url, timeout_seconds=1.5)
        error = await failure(processor, asked=asked)
        told = gateway.rollout("r1").status()
    assert called.is_set()
    assert isinstance(error, DeadlineExceededError)
    assert "Rollout r1 timed out after 1.5 seconds" in str(error)
    assert url in str(error)
    assert error.retryable
    assert [message.content for message in asked.messages] == ["hi", "turn 0"]
    assert told is not None
    assert told["code"] == 4


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        *((code, None, code in (2, 4, 5, 7, 8, 14, 16, 103)) for code in (*range(1, 17), 103)),
        (77, UnknownError, True),
    ],
)
async def test_a_posted_status_becomes_its_exception(
    gateway: GatewayDouble, code: int, kind: type[RolloutError] | None, retryable: bool
):
    async def init(request: web.Request) -> web.Response:
        status = {"code": code, "message": "because", "details": []}
        line = {"program": "eval_protocol", "status": status, "message": "my last words", "tags": ["rollout_id:r1"]}
        async with aiohttp.ClientSession() as session:
            await session.post(f"{gateway.url}/logs", json={**line, "extras": {"cost": 3, "level": "ERROR"}})
        return web.json_response({"anything": "goes"}, status=201)

    asked = row()
    async with answering(init) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url), asked=asked)
    expected = kind or type(exception_for_status_code(code))
    assert type(error) is expected
    assert (int(error.code), error.retryable) == (code if code != 77 else 2, retryable)
    assert "because" in str(error)
    assert asked.execution_metadata.extra == {"cost": 3}
    assert [message.role for message in asked.messages] == ["user"]


@pytest.mark.parametrize("status", [None, {}, {"code": None}, {"code": "100"}, "done", {"code": True}])
async def test_a_malformed_status_is_none(gateway: GatewayDouble, status: Any):
    gateway.override["status"] = (200, {"rollout_id": "r1", "status": status})
    async with serving(agent_app(one_call)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url, timeout_seconds=0.3, poll_interval=0.05))
    assert isinstance(error, DeadlineExceededError)
    asked = [path for _, path, _ in gateway.requests if "/status" in path]
    assert 1 <= len(asked) <= 10  # every poll_interval, never in a tight loop


async def test_polling_where_the_gateway_has_no_long_poll(gateway: GatewayDouble):
    gateway.long_poll = False
    go = asyncio.Event()

    async def agent(request: InitRequest) -> None:
        await chat(request)
        await go.wait()

    async with serving(agent_app(agent)) as url:
        processor = RemoteRolloutProcessor(remote_base_url=url, poll_interval=0.05)
        [task] = processor([row()], RolloutProcessorConfig(completion_params={"model": "m"}))
        while sum("/status" in path for _, path, _ in gateway.requests) < 3:
            await asyncio.sleep(0)
        go.set()
        done = await task
        await processor.acleanup()
    assert done.rollout_status.is_finished()


async def test_long_poll_asks_once(gateway: GatewayDouble):
    async with serving(agent_app(one_call)) as url:
        await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    asked = [path for _, path, _ in gateway.requests if "/status" in path]
    assert len(asked) == 1
    assert "wait=30.000" in asked[0]


async def test_a_gateway_that_restarts_in_the_middle(gateway: GatewayDouble):
    down, go = asyncio.Event(), asyncio.Event()

    async def agent(request: InitRequest) -> None:
        await chat(request)
        await asyncio.to_thread(gateway.polled.wait, 10)
        down.set()
        await go.wait()

    async with serving(agent_app(agent)) as url:
        processor = RemoteRolloutProcessor(remote_base_url=url)
        [task] = processor([row()], RolloutProcessorConfig(completion_params={"model": "m"}))
        await down.wait()
        await asyncio.to_thread(gateway.stop)
        go.set()  # the agent's last line finds nobody, and is posted again
        await asyncio.to_thread(gateway.start)
        done = await task
        await processor.acleanup()
    assert done.rollout_status.is_finished()
    assert done.messages[-1].content == "turn 0"


async def test_a_gateway_that_stays_away_is_named(gateway: GatewayDouble):
    async def agent(request: InitRequest) -> None:
        await asyncio.to_thread(gateway.polled.wait, 10)
        await asyncio.to_thread(gateway.stop)

    async with serving(agent_app(agent)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url, timeout_seconds=1.0))
        await asyncio.to_thread(gateway.start)
        await ended(gateway)
    assert isinstance(error, UnavailableError)
    assert gateway.url in str(error)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {"error": {"message": "unknown key"}}), "401 unknown key"),
        ((403, {"detail": "not yours"}), "403 not yours"),
        ((404, {"detail": "nothing here"}), "tracing gateway"),
    ],
)
async def test_a_gateway_that_refuses_ends_it_at_once(gateway: GatewayDouble, answer: Any, says: str):
    gateway.override["status"] = answer
    async with serving(agent_app(one_call)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url))
    assert says in str(error)
    assert gateway.url in str(error)
    assert not error.retryable
    assert answer[0] != 401 or isinstance(error, UnauthenticatedError)


async def test_garbage_from_the_gateway_is_waited_out_and_named(gateway: GatewayDouble):
    gateway.override["status"] = (200, b"<html>")
    async with serving(agent_app(one_call)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url, timeout_seconds=0.5))
    assert isinstance(error, UnavailableError)
    assert "no JSON: <html>" in str(error)


async def test_an_older_gateway_has_its_routes_elsewhere(gateway: GatewayDouble):
    gateway.missing |= {"/v1/status", "/logs", "/v1/traces/pointwise"}
    async with serving(agent_app(one_call)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    assert done.messages[-1].content == "turn 0"


async def test_a_proxy_in_front_of_a_gateway_that_is_away_settles_no_route(gateway: GatewayDouble):
    gateway.override["status"] = (502, {})

    async def agent(request: InitRequest) -> None:
        await chat(request)
        async with asyncio.timeout(10):
            while not any("/v1/status" in path for _, path, _ in gateway.requests):
                await asyncio.sleep(0.01)
        gateway.missing |= {"/v1/status"}
        del gateway.override["status"]

    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    assert done.rollout_status.is_finished()


async def test_finishing_twice_changes_nothing(gateway: GatewayDouble):
    async def agent(request: InitRequest) -> None:
        await chat(request)
        logging.getLogger("agent").warning("done", extra={"status": Status.rollout_finished()})

    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    assert done.rollout_status.is_finished()
    assert [message.content for message in done.messages] == ["hi", "turn 0"]


async def test_an_agent_that_never_calls_its_model_is_told_so(gateway: GatewayDouble):
    async def agent(request: InitRequest) -> None:
        pass

    async with serving(agent_app(agent)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url))
    assert isinstance(error, NotFoundError)
    assert "made no model call" in str(error)
    assert not error.retryable


async def test_a_trace_without_an_answer_is_no_trajectory(gateway: GatewayDouble):
    gateway.rollout("r1").traces = [trace("r1", [{"role": "user", "content": "hi"}], {})]

    async def agent(request: InitRequest) -> None:
        pass

    async with serving(agent_app(agent)) as url:
        error = await failure(RemoteRolloutProcessor(remote_base_url=url))
    assert isinstance(error, InternalError)


async def test_what_a_trace_holds_reaches_the_row(gateway: GatewayDouble):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    shown = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "logprobs": {"x": 1}},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]
    said = {"role": "assistant", "content": "4", "reasoning_content": "hm"}
    made = trace("r1", shown, said, {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10})
    made["input"]["tools"] = [{"type": "function", "function": {"name": "f"}}]
    made["metadata"]["rollout_usage"] = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}
    gateway.rollout("r1").traces = [trace("r1", shown[:1], shown[1]), made]

    async def agent(request: InitRequest) -> None:
        pass

    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    assert [message.role for message in done.messages] == ["user", "assistant", "tool", "assistant"]
    assert done.messages[0].text == "hi"
    assert done.messages[1].tool_calls is not None
    assert done.messages[1].tool_calls[0].function.name == "f"
    assert (done.messages[2].tool_call_id, done.messages[3].reasoning_content) == ("c1", "hm")
    assert done.tools == made["input"]["tools"]
    assert done.execution_metadata.tool_call_count == 1
    assert done.execution_metadata.usage is not None
    assert done.execution_metadata.usage.completion_tokens == 4


def packed(content: bytes, **manifest: Any) -> dict[str, Any]:
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(content)
    return {"manifest": manifest, "data": base64.b64encode(frame).decode()}


async def test_payloads_are_decoded_turn_by_turn(gateway: GatewayDouble):
    def payloads(prompt: list[int], sampled: list[tuple[int, float]]) -> dict[str, Any]:
        body = b"".join(struct.pack("<if", *one) for one in sampled)
        header = struct.pack("<4sBBHIIQ", b"LP01", 1, 0, 0, len(sampled), len(body), 0)
        routing = struct.pack("<4sBBBBIIIIQ", b"R3V1", 1, 2, 1, 0, 3, 2, 1, 1, 2) + b"\x06" + b"\x01\x02\x03\x04"
        return {
            "prompt_token_ids": packed(json.dumps(prompt).encode(), scope="prompt_only"),
            "logprobs": packed(header + body),
            "router_replay": packed(routing),
        }

    user, first, more = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
    )
    gateway.rollout("r1").traces = [
        trace("r1", [user], first, payloads=payloads([1, 2], [(3, -0.5), (4, -0.25)])),
        trace(
            "r1", [user, first, more], {"role": "assistant", "content": "c"}, payloads=payloads([1, 5], [(-1, -1.0)])
        ),
    ]

    async def agent(request: InitRequest) -> None:
        pass

    asked = row()
    asked.execution_metadata.extra = {"mine": 1, "prompt_token_ids": "kept"}
    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url, include_payloads=True), asked)
    extra = done.execution_metadata.extra
    assert extra is not None
    assert (extra["mine"], extra["prompt_token_ids"]) == (1, "kept")
    assert extra["completion_logprobs"] == [-1.0]
    assert "completion_token_ids" not in extra
    turns = extra["assistant_turn_payloads"]
    assert [turn["assistant_turn_index"] for turn in turns] == [0, 1]
    assert (turns[0]["prompt_token_ids"], turns[0]["completion_token_ids"]) == ([1, 2], [3, 4])
    assert turns[0]["prompt_token_ids_metadata"] == {"scope": "prompt_only"}
    assert turns[0]["logprobs_metadata"]["token_count"] == 2
    assert [base64.b64decode(one) for one in turns[1]["routing_matrices"]] == [b"\x01\x02", b"\x03\x04"]
    assert turns[1]["routing_metadata"]["selector_mode"] == "bitmap"
    assert done.messages[1].logprobs == {
        "content": [{"logprob": -0.5, "token_id": 3}, {"logprob": -0.25, "token_id": 4}]
    }
    assert done.messages[3].logprobs == {"content": [{"logprob": -1.0}]}


@pytest.mark.parametrize(
    "payload",
    [
        {"data": "no base64!"},
        {"data": base64.b64encode(b"no zstd").decode()},
        packed(b"LP01"),
        packed(struct.pack("<4sBBHIIQ", b"LP02", 1, 0, 0, 0, 0, 0)),
        packed(struct.pack("<4sBBHIIQ", b"LP01", 1, 0, 0, 9, 0, 0)),
        {"data": base64.b64encode(zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100)).decode()},
    ],
)
async def test_a_broken_payload_costs_only_itself(
    gateway: GatewayDouble, payload: Any, caplog: pytest.LogCaptureFixture
):
    good = packed(b"[1]")
    user, said = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}
    gateway.rollout("r1").traces = [trace("r1", [user], said, payloads={"logprobs": payload, "prompt_token_ids": good})]

    async def agent(request: InitRequest) -> None:
        pass

    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row(), include_payloads=True)
    assert done.execution_metadata.extra is not None
    assert done.execution_metadata.extra["prompt_token_ids"] == [1]
    assert "The payload logprobs of a trace cannot be read" in caplog.text


async def test_payloads_without_zstd_say_what_to_install(gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match=r"tunesmith-eval\[payloads\]"):
        await roll(RemoteRolloutProcessor(remote_base_url="http://x", include_payloads=True), row())


async def test_an_output_data_loader_replaces_the_traces(gateway: GatewayDouble):
    asked_for: list[DataLoaderConfig] = []

    def load() -> list[EvaluationRow]:
        long = row(("user", "hi"), ("assistant", "from my database"), rollout_id="another")
        long.execution_metadata.finish_reason = "length"
        long.execution_metadata.extra = {"theirs": 2}
        long.input_metadata.session_data = {"mode": "other", "db": 1}
        return [row(rollout_id="another"), long]

    def loader(config: DataLoaderConfig) -> DynamicDataLoader:
        asked_for.append(config)
        return DynamicDataLoader(generators=[load])

    async with serving(agent_app(one_call)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url, output_data_loader=loader), row())
        empty = await failure(
            RemoteRolloutProcessor(remote_base_url=url, output_data_loader=lambda _: DynamicDataLoader(generators=[]))
        )
    assert [(config.rollout_id, config.model_base_url) for config in asked_for] == [("r1", gateway.url)]
    assert done.messages[-1].content == "from my database"
    assert done.execution_metadata.rollout_id == "r1"
    assert (done.execution_metadata.finish_reason, done.execution_metadata.extra) == ("length", {"theirs": 2})
    assert done.input_metadata.session_data == {"mode": "pointwise", "db": 1}
    assert "output_data_loader loaded no row" in str(empty)
    assert not any("/traces" in path for _, path, _ in gateway.requests)


async def test_ten_megabytes_of_log_lines_do_no_harm(gateway: GatewayDouble):
    async def agent(request: InitRequest) -> None:
        logging.getLogger("agent").warning("x" * 10 * 2**20, extra={"blob": "y" * 10 * 2**20, "odd": float("nan")})
        await chat(request)

    async with serving(agent_app(agent)) as url:
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), row())
    assert done.rollout_status.is_finished()
    line = next(line for line in gateway.lines if line["status"] is None)
    assert len(json.dumps(line)) < 2**18
    assert line["message"].endswith("(cut: 10,485,760 characters)")
    assert "left out" in line["extras"]["cut"]


async def test_a_large_row_is_sent(gateway: GatewayDouble):
    async with serving(agent_app(one_call)) as url:
        asked = row(("user", "z" * 3 * 2**18), ("user", "y" * 2**19))
        done = await roll(RemoteRolloutProcessor(remote_base_url=url), asked)
    assert done.rollout_status.is_finished()


async def test_a_new_try_has_a_fresh_id_and_row_and_the_zombie_of_the_first_changes_nothing(
    gateway: GatewayDouble, tmp_path: Path
):
    tries: list[str] = []
    release = asyncio.Event()

    async def agent(request: InitRequest) -> None:
        rollout_id = request.metadata.rollout_id
        tries.append(rollout_id)
        assert [message.text for message in request.messages or []] == ["hi"]
        if len(tries) == 1:
            await chat(request, [{"role": "user", "content": "stale"}, {"role": "user", "content": "stale"}])
            await release.wait()  # the first try's time runs out; it goes on all the same
            await chat(request, [{"role": "user", "content": "zombie"}] * 5)
            return
        release.set()
        await chat(request)

    @evaluation_test(
        input_rows=[[EvaluationRow(messages=[Message(role="user", content="hi")])]],
        completion_params=[{"model": "accounts/a/models/m"}],
        rollout_processor=RemoteRolloutProcessor(),
        rollout_processor_kwargs={"timeout_seconds": 1.0},
        exception_handler_config=QUICK,
    )
    def scored(row: EvaluationRow) -> EvaluationRow:
        row.evaluation_result = EvaluateResult(score=float(row.messages[-1].text == "turn 0"), reason="")
        return row

    async with serving(agent_app(agent)) as url:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL", url)
            report = await run_evaluation(
                spec_of(scored), RunSettings(results_db=tmp_path / "r.db", local_ui_port=9), invocation_id="inv"
            )
    assert tries == [tries[0], f"{tries[0]}-t1"]
    [done] = report.rows
    assert [message.content for message in done.messages] == ["hi", "turn 0"]
    assert done.execution_metadata.rollout_id == tries[1]
    assert report.score == 1.0
    [stored] = rows_of(tmp_path / "r.db", "inv")
    assert stored.row == done


async def test_a_failed_row_says_why_and_is_not_scored(gateway: GatewayDouble, tmp_path: Path):
    async def agent(request: InitRequest) -> None:
        if request.messages and request.messages[0].text == "bad":
            raise ValueError("no such tool")
        await chat(request)

    @evaluation_test(
        input_rows=[[EvaluationRow(messages=[Message(role="user", content=text)]) for text in ("good", "bad")]],
        completion_params=[{"model": "m"}],
        rollout_processor=RemoteRolloutProcessor(),
        exception_handler_config=QUICK,
    )
    def scored(row: EvaluationRow) -> EvaluationRow:
        row.evaluation_result = EvaluateResult(score=1.0, reason="")
        return row

    shown, level = io.StringIO(), logging.getLogger("eval_protocol").level
    async with serving(agent_app(agent)) as url:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL", url)
            report = await run_evaluation(
                spec_of(scored), RunSettings(results_db=tmp_path / "r.db", local_ui_port=9), progress=Lines(shown)
            )
    good, bad = report.rows
    assert good.rollout_status.is_finished()
    assert (int(bad.rollout_status.code), bad.rollout_status.message) == (13, "ValueError: no such tool")
    assert bad.evaluation_result is None
    rollout_id = good.execution_metadata.rollout_id
    assert (
        f"INFO:eval_protocol.pytest.remote_rollout_processor:Found status log for rollout {rollout_id}: "
        in shown.getvalue()
    )
    assert logging.getLogger("eval_protocol").level == level


async def test_concurrency_is_the_semaphores(gateway: GatewayDouble):
    busy = busiest = 0

    async def agent(request: InitRequest) -> None:
        nonlocal busy, busiest
        busy += 1
        busiest = max(busiest, busy)
        await chat(request)
        busy -= 1

    async with serving(agent_app(agent)) as url:
        processor = RemoteRolloutProcessor(remote_base_url=url)
        config = RolloutProcessorConfig(completion_params={"model": "m"}, semaphore=asyncio.Semaphore(2))
        await asyncio.gather(*processor([row(rollout_id=f"r{i}") for i in range(6)], config))
        await processor.acleanup()
    assert busiest <= 2


def test_what_cannot_work_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch, clean: Path):
    config = RolloutProcessorConfig(completion_params={"model": "m"})
    with pytest.raises(RolloutError, match="remote_base_url"):
        RemoteRolloutProcessor()([row()], config)
    with pytest.raises(RolloutError, match="tunesmith up"):
        RemoteRolloutProcessor(remote_base_url="http://x")([row()], config)
    with pytest.raises(UsageError, match="timeout_seconds is 0"):
        RemoteRolloutProcessor(timeout_seconds=0)
    config.kwargs["poll"] = 1
    with pytest.raises(UsageError, match="'poll'"):
        RemoteRolloutProcessor(remote_base_url="http://x")([row()], config)


def test_the_published_import_paths():
    from importlib import import_module

    import eval_protocol

    for name in (
        "pytest.remote_rollout_processor:RemoteRolloutProcessor",
        "types.remote_rollout_processor:InitRequest",
        "types.remote_rollout_processor:RolloutMetadata",
        "types.remote_rollout_processor:DataLoaderConfig",
        "log_utils.fireworks_tracing_http_handler:FireworksTracingHttpHandler",
        "log_utils.rollout_id_filter:RolloutIdFilter",
        "log_utils.rollout_context:ContextRolloutIdFilter",
        "log_utils.rollout_context:rollout_logging_context",
        "log_utils.init:init_external_logging_from_env",
        "data_loader.dynamic_data_loader:DynamicDataLoader",
        "data_loader.models:DataLoaderResult",
        "exceptions:exception_for_status_code",
        "exceptions:UnavailableError",
    ):
        module, _, attribute = name.partition(":")
        assert getattr(import_module(f"eval_protocol.{module}"), attribute) is not None
    for name in ("InitRequest", "RolloutMetadata", "Status", "FireworksTracingHttpHandler", "RolloutIdFilter"):
        assert getattr(eval_protocol, name) is not None
    assert eval_protocol.RemoteRolloutProcessor is RemoteRolloutProcessor
