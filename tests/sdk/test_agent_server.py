"""Serving an agent: `/init` over real HTTP under uvicorn, and what reaches the gateway."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvicorn
from eval_protocol.errors import UsageError
from eval_protocol.models import Status
from eval_protocol.models.remote import InitRequest
from eval_protocol.tracing import agent_app

from tests.sdk.gateway_double import GatewayDouble


@pytest.fixture
def gateway() -> Iterator[GatewayDouble]:
    made = GatewayDouble()
    yield made
    made.close()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The app under uvicorn, in this loop."""
    listener = socket.create_server(("127.0.0.1", 0))  # connections wait in its backlog until the server accepts
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def init_body(gateway: GatewayDouble, rollout_id: str = "r1", **more: Any) -> dict[str, Any]:
    ids = {"invocation_id": "i", "experiment_id": "e", "rollout_id": rollout_id, "run_id": "n", "row_id": "w"}
    base = f"{gateway.url}/rollout_id/{rollout_id}/invocation_id/i/experiment_id/e/run_id/n/row_id/w"
    return {
        "completion_params": {"model": "m"},
        "messages": [{"role": "user", "content": "hi", "name": None}],
        "tools": None,
        "model_base_url": base,
        "metadata": ids,
        "api_key": "job-key",
        **more,
    }


async def post(url: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session:
        kind = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with session.post(f"{url}/init", **kind) as response:
            return response.status, await response.json()


async def ended(gateway: GatewayDouble, rollout_id: str = "r1") -> dict[str, Any]:
    """The status that the gateway derives, once it is terminal."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{gateway.url}/status", params={"rollout_id": rollout_id, "wait": "20"}) as response:
            return (await response.json())["status"]


async def test_a_function_becomes_a_server(gateway: GatewayDouble, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    seen: list[InitRequest] = []

    async def rollout(request: InitRequest) -> None:
        seen.append(request)
        logging.getLogger("my.agent").info("thinking about %s", "it", extra={"step": 1})

    async with serving(agent_app(rollout)) as url:
        status, answer = await post(url, init_body(gateway))
        assert (status, answer) == (202, {"rollout_id": "r1", "status": "running"})
        assert await ended(gateway) == {"code": 100, "message": "Rollout finished", "details": []}
        assert await post(url, init_body(gateway)) == (200, {"rollout_id": "r1", "status": "finished"})
    [request] = seen
    assert request.messages is not None
    assert request.messages[0].text == "hi"
    chatter = next(line for line in gateway.lines if line["status"] is None)
    assert chatter["message"] == "thinking about it"
    assert chatter["program"] == "eval_protocol"
    assert chatter["tags"] == ["rollout_id:r1", "experiment_id:e", "run_id:n"]
    assert chatter["extras"]["step"] == 1
    assert chatter["extras"]["logger_name"] == "my.agent"
    assert chatter["extras"]["level"] == "INFO"
    assert chatter["extras"]["timestamp"].endswith("Z")
    final = next(line for line in gateway.lines if line["status"])
    assert final["message"] == "Rollout r1 completed"
    assert {bearer for _, path, bearer in gateway.requests if path.endswith("/logs")} == {"job-key"}
    assert len([line for line in gateway.lines if line["status"]]) == 1


async def test_a_failing_agent_is_told_with_the_code_that_fits(gateway: GatewayDouble):
    class APIConnectionError(Exception):
        pass

    class APITimeoutError(APIConnectionError):
        pass

    class Refused(Exception):
        status_code = 429

    class Spent(Refused):
        response = SimpleNamespace(headers={"x-should-retry": "false"})

    errors = {
        "down": (APIConnectionError("no route"), 14),
        "slow": (APITimeoutError("60 s"), 4),
        "builtin": (TimeoutError(), 4),
        "busy": (Refused("later"), 8),
        "spent": (Spent("no budget left"), 9),
        "bug": (KeyError("x"), 13),
    }

    async def rollout(request: InitRequest) -> None:
        raise errors[request.metadata.rollout_id][0]

    async with serving(agent_app(rollout)) as url:
        for name, (_, code) in errors.items():
            await post(url, init_body(gateway, name))
            status = await ended(gateway, name)
            assert (name, status["code"]) == (name, code)
        assert "KeyError" in (await ended(gateway, "bug"))["message"]
    assert any("Traceback" in line["message"] for line in gateway.lines)


async def test_the_agent_may_decide_its_status(gateway: GatewayDouble):
    async def rollout(request: InitRequest) -> Status:
        return Status.rollout_response_quality_error("gibberish")

    async with serving(agent_app(rollout)) as url:
        await post(url, init_body(gateway))
        assert await ended(gateway) == {"code": 103, "message": "gibberish", "details": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{not json", None),
        (b"[]", None),
        ({"metadata": {"rollout_id": "r"}}, "metadata.invocation_id"),
        ({"completion_params": {}}, "metadata"),
        ("no gateway", "model_base_url"),
    ],
)
async def test_bad_requests_name_the_field(gateway: GatewayDouble, body: Any, field: str | None):
    async def rollout(request: InitRequest) -> None:
        raise AssertionError("must not run")

    if body == "no gateway":
        body = init_body(gateway, model_base_url=None)
    async with serving(agent_app(rollout)) as url:
        status, answer = await post(url, body)
    assert status == 400
    assert answer["error"].get("field") == field
    assert field is None or field in answer["error"]["message"]


async def test_other_routes_methods_and_sizes(gateway: GatewayDouble):
    async def rollout(request: InitRequest) -> None:
        pass

    async with serving(agent_app(rollout)) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as response:
            assert (await response.json()) == {"status": "healthy", "rollouts": 0, "dropped_log_lines": 0}
        async with session.get(f"{url}/init") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        async with session.post(f"{url}/elsewhere") as response:
            assert response.status == 404
        async with session.post(f"{url}/init", data=io.BytesIO(b"x" * (33 * 2**20))) as response:
            assert response.status == 413


async def test_concurrency_is_bounded_and_too_many_are_told_so(gateway: GatewayDouble):
    go, busy, busiest = asyncio.Event(), 0, 0

    async def rollout(request: InitRequest) -> None:
        nonlocal busy, busiest
        busy += 1
        busiest = max(busiest, busy)
        await go.wait()
        busy -= 1

    async with serving(agent_app(rollout, max_concurrent=2, max_waiting=1)) as url:
        answers = [(await post(url, init_body(gateway, f"r{i}")))[0] for i in range(4)]
        assert answers == [202, 202, 202, 429]
        assert (await post(url, init_body(gateway, "r0"))) == (200, {"rollout_id": "r0", "status": "running"})
        go.set()
        for i in range(3):
            assert (await ended(gateway, f"r{i}"))["code"] == 100
    assert busiest == 2


async def test_a_stopping_server_says_so_for_its_rollouts(gateway: GatewayDouble):
    begun = asyncio.Event()

    async def rollout(request: InitRequest) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with serving(agent_app(rollout, max_concurrent=1)) as url:
        await post(url, init_body(gateway, "at-work"))
        await post(url, init_body(gateway, "waiting"))
        await begun.wait()
    for name in ("at-work", "waiting"):
        assert (await ended(gateway, name))["code"] == 14


async def test_rollouts_keep_their_lines_apart(gateway: GatewayDouble, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    both = asyncio.Barrier(2)

    async def rollout(request: InitRequest) -> None:
        await both.wait()
        await asyncio.to_thread(logging.getLogger("agent").info, "I am %s", request.metadata.rollout_id)
        await both.wait()

    async with serving(agent_app(rollout)) as url:
        await asyncio.gather(*(post(url, init_body(gateway, name)) for name in ("a", "b")))
        for name in ("a", "b"):
            await ended(gateway, name)
    for name in ("a", "b"):
        assert [line["message"] for line in gateway.rollout(name).lines if line["status"] is None] == [f"I am {name}"]


def test_only_async_functions_can_be_served():
    with pytest.raises(UsageError, match="async function"):
        agent_app(lambda request: None)  # type: ignore[arg-type, return-value]
