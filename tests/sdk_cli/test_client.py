"""The platform client over a real socket: retries, idempotent creates, where the key goes, and what errors say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from eval_protocol.client.control_plane import ControlPlane
from eval_protocol.client.errors import BrokenAnswer, Missing, NotAllowed, Refused, Taken, Unreachable
from eval_protocol.client.watch import watch
from eval_protocol.client.wire import Job

from tests.sdk_cli.fake_platform import KEY, FakePlatform

JOBS = "/v1/accounts/local/reinforcementFineTuningJobs"
DATASETS = "/v1/accounts/local/datasets"


class Waits(list[float]):
    """A sleep that only writes down for how long."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def client(platform: FakePlatform, waits: Waits) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(platform.base + "/", KEY, "local", sleep=waits) as found:
        yield found


async def test_a_busy_platform_is_asked_again_with_growing_pauses(
    platform: FakePlatform, client: ControlPlane, waits: Waits
) -> None:
    platform.failures["GET /verifyApiKey"] = [(503, {"message": "starting"}), (500, {}), (429, {})]
    assert await client.verify_api_key() == "local"
    assert waits == [0.5, 1.0, 2.0]


async def test_an_answer_that_will_not_change_is_not_asked_for_again(
    platform: FakePlatform, client: ControlPlane, waits: Waits
) -> None:
    platform.failures[f"POST {JOBS}"] = [(400, {"code": 3, "message": "epochs must be at most 10."})]
    with pytest.raises(Refused) as caught:
        await client.create_job({"dataset": "d"})
    assert len(platform.of(f"POST {JOBS}")) == 1
    assert not waits
    assert str(caught.value) == "Creating the RFT job failed: epochs must be at most 10."


async def test_a_platform_that_stays_broken_is_given_up_with_its_own_words(
    platform: FakePlatform, client: ControlPlane
) -> None:
    platform.failures["GET /verifyApiKey"] = [(500, {"error": {"message": "disk full"}})] * 4
    with pytest.raises(Refused, match=r"answered 500: disk full\. The platform's own log"):
        await client.verify_api_key()


async def test_a_create_whose_answer_was_lost_makes_one_resource(platform: FakePlatform, client: ControlPlane) -> None:
    platform.drop_answers = {f"POST {JOBS}": 1, f"POST {DATASETS}": 1, "POST /v1/accounts/local/evaluatorsV2": 1}
    job = await client.create_job({"dataset": "d"})
    assert list(platform.jobs) == [job.id]
    await client.create_dataset("rows", 3)
    assert list(platform.datasets) == ["rows"]
    await client.create_evaluator("mine", {"entryPoint": "a.py::f"})
    assert list(platform.evaluators) == ["mine"]


async def test_an_id_that_somebody_else_took_is_an_error(platform: FakePlatform, client: ControlPlane) -> None:
    await client.create_job({"dataset": "d"}, "mine")
    with pytest.raises(Taken, match="mine exists"):
        await client.create_job({"dataset": "d"}, "mine")


async def test_a_wrong_key_says_where_the_right_one_is(platform: FakePlatform) -> None:
    async with ControlPlane(platform.base, "wrong") as client:
        with pytest.raises(
            NotAllowed, match=r"answered 401: The API key is not known here\. Check the key: `tunesmith up`"
        ):
            await client.verify_api_key()


async def test_nothing_listening_says_how_to_start_it(waits: Waits, unused_tcp_port: int) -> None:
    async with ControlPlane(f"http://127.0.0.1:{unused_tcp_port}", KEY, sleep=waits) as client:
        with pytest.raises(Unreachable, match=r"nothing answers at http://127.0.0.1:\d+ .*`tunesmith up`"):
            await client.verify_api_key()
    assert len(waits) == 3


async def test_another_service_at_the_address_is_recognised(platform: FakePlatform, client: ControlPlane) -> None:
    platform.failures["GET /verifyApiKey"] = [(200, {})]
    with pytest.raises(BrokenAnswer, match="names no account"):
        await client.verify_api_key()


async def test_the_key_follows_no_redirect_and_goes_to_no_signed_address(unused_tcp_port_factory) -> None:
    seen: list[tuple[str, str | None]] = []

    async def thief(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.json_response({})

    async def owner(request: web.Request) -> web.StreamResponse:
        if request.path.endswith(":getUploadEndpoint"):
            (name,) = (await request.json())["filenameToSize"]
            return web.json_response({"filenameToSignedUrls": {name: f"http://127.0.0.1:{other}/bucket?sig=a%2Fb%3D"}})
        if request.path.endswith(":validateUpload"):
            return web.json_response({})
        raise web.HTTPFound(f"http://127.0.0.1:{other}/verifyApiKey")

    other, own = unused_tcp_port_factory(), unused_tcp_port_factory()
    runners = []
    for handler, port in ((thief, other), (owner, own)):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        runners.append(runner)
    async with ControlPlane(f"http://127.0.0.1:{own}", KEY, "local") as client:
        with pytest.raises(Refused, match=r"answered 302.*Redirects are not followed"):
            await client.verify_api_key()
        assert seen == []
        await client.upload_evaluator_code("mine", "p.tar.gz", b"content")
    assert seen == [("/bucket", None)]
    for runner in runners:
        await runner.cleanup()


async def test_code_goes_up_as_the_wire_contract_says(platform: FakePlatform, client: ControlPlane) -> None:
    await client.create_evaluator("mine", {"entryPoint": "a.py::f"})
    await client.upload_evaluator_code("mine", "p.tar.gz", b"content")
    evaluator = "/v1/accounts/local/evaluators/mine"
    assert platform.lines == [
        "POST /v1/accounts/local/evaluatorsV2",
        f"POST {evaluator}:getUploadEndpoint",
        "PUT /signed/p.tar.gz",
        f"POST {evaluator}:validateUpload",
    ]
    assert platform.requests[1].json == {"filenameToSize": {"p.tar.gz": "7"}}
    put = platform.requests[2]
    assert put.body == b"content"
    assert put.headers["content-type"] == "application/octet-stream"
    assert put.headers["x-goog-content-length-range"] == "7,7"
    assert "authorization" not in put.headers


async def test_secrets_are_made_or_overwritten(platform: FakePlatform, client: ControlPlane) -> None:
    assert await client.put_secret("a-key", "A_KEY", "one") is True
    assert await client.put_secret("a-key", "A_KEY", "two") is False
    assert platform.secrets["a-key"]["value"] == "two"
    assert platform.of("POST /v1/accounts/local/secrets")[0].json == {
        "keyName": "A_KEY",
        "name": "a-key",
        "value": "one",
    }
    assert platform.of("PATCH /v1/accounts/local/secrets/a-key")[0].json == {"keyName": "A_KEY", "value": "two"}


async def test_jobs_are_listed_page_by_page(platform: FakePlatform, client: ControlPlane) -> None:
    pages = [
        (200, {"reinforcementFineTuningJobs": [{"name": "accounts/local/j/a"}], "nextPageToken": "t"}),
        (200, {"reinforcementFineTuningJobs": [{"name": "accounts/local/j/b"}]}),
    ]
    platform.failures[f"GET {JOBS}"] = pages
    assert [job.id for job in await client.list_jobs()] == ["a", "b"]
    assert platform.requests[1].query["pageToken"] == ["t"]


async def test_cancel_and_delete_use_their_routes(platform: FakePlatform, client: ControlPlane) -> None:
    platform.failures = {f"POST {JOBS}/mine:cancel": [(200, {})], f"DELETE {JOBS}/mine": [(200, {})]}
    await client.cancel_job("mine")
    await client.delete_job("mine")
    assert platform.lines == [f"POST {JOBS}/mine:cancel", f"DELETE {JOBS}/mine"]
    with pytest.raises(Missing):
        await client.get_job("mine")


async def test_a_job_is_watched_to_its_end_without_an_event_stream(
    platform: FakePlatform, client: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval_protocol.client.watch.POLL_SECONDS", 0.01)
    monkeypatch.setattr("eval_protocol.client.watch.SHORTEST_PAUSE_SECONDS", 0.0)
    platform.jobs["mine"] = {"name": "accounts/local/j/mine", "state": "JOB_STATE_PENDING"}
    platform.job_views = [
        {"state": "JOB_STATE_PENDING"},
        {"state": "JOB_STATE_RUNNING", "run": {"step": 1, "total_steps": 2}},
        {"state": "JOB_STATE_RUNNING", "run": {"step": 1, "total_steps": 2}},
        {"state": "JOB_STATE_COMPLETED", "run": {"step": 2, "total_steps": 2}},
    ]
    platform.metrics = [
        {"kind": "chunk", "step": 1, "mean_score": 0.1},
        {"kind": "chunk", "step": 2, "mean_score": 0.4},
    ]
    platform.failures[f"GET {JOBS}/mine"] = [(200, platform.jobs["mine"])]
    views = [view async for view in watch(client, await client.get_job("mine"))]
    assert [(view.job.state, len(view.metrics.chunks)) for view in views] == [
        ("JOB_STATE_RUNNING", 1),
        ("JOB_STATE_COMPLETED", 2),
    ]


async def test_a_platform_that_is_away_for_a_moment_does_not_end_the_watch(
    platform: FakePlatform, client: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval_protocol.client.watch.POLL_SECONDS", 0.01)
    monkeypatch.setattr("eval_protocol.client.watch.SHORTEST_PAUSE_SECONDS", 0.0)
    platform.jobs["mine"] = {"name": "accounts/local/j/mine", "state": "JOB_STATE_COMPLETED"}
    platform.failures[f"GET {JOBS}/mine"] = [(503, {"message": "restarting"})] * 4
    start = Job(name="accounts/local/j/mine", state="JOB_STATE_RUNNING")
    views = [view async for view in watch(client, start)]
    assert [view.trouble for view in views] == ["restarting", ""]
    assert views[-1].job.state == "JOB_STATE_COMPLETED"


async def test_events_wake_the_watch_and_reconnect_from_the_last_one(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval_protocol.client.watch.SAFETY_POLL_SECONDS", 30.0)
    monkeypatch.setattr("eval_protocol.client.watch.SHORTEST_PAUSE_SECONDS", 0.0)
    state, streams = {"value": "JOB_STATE_RUNNING"}, []
    finish = asyncio.Event()

    async def job(request: web.Request) -> web.Response:
        return web.json_response({"name": "accounts/local/j/mine", "state": state["value"]})

    async def metrics(request: web.Request) -> web.Response:
        return web.json_response({"events": [], "metrics": []})

    async def events(request: web.Request) -> web.StreamResponse:
        streams.append(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if len(streams) == 1:
            await response.write(b": hello\n\nid: 7\ndata: " + json.dumps({"step": 1}).encode() + b"\n\n")
            return response
        await finish.wait()
        state["value"] = "JOB_STATE_COMPLETED"
        await response.write(b"id: 8\nevent: state\ndata: {}\n\n")
        await asyncio.sleep(30)
        return response

    app = web.Application()
    base = f"{JOBS}/mine"
    app.add_routes([web.get(base, job), web.get(f"{base}/metrics", metrics), web.get(f"{base}/events", events)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    async with ControlPlane(f"http://127.0.0.1:{unused_tcp_port}", KEY, "local") as client:

        async def collect() -> list[str]:
            start = Job(name="accounts/local/j/mine", state="JOB_STATE_PENDING")
            return [view.job.state async for view in watch(client, start)]

        watching = asyncio.create_task(collect())
        while len(streams) < 2:
            await asyncio.sleep(0.02)
        finish.set()
        assert await asyncio.wait_for(watching, 10) == ["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED"]
    assert streams == [None, "7"]
    await runner.cleanup()
