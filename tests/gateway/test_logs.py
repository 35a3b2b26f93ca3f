"""`POST …/logs` and `GET …/logs`: committed before the answer, bounded, found by their tags, each job's for itself."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.requests import Request
from tunesmith.db.captured import CapturedFile
from tunesmith.db.rollout_logs import LogFilter, LogStore
from tunesmith.gateway import states
from tunesmith.gateway.tracing import TooLarge, read_limited
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.gateway.conftest import Answer, Gateway

FINISHED = {"code": 100, "message": "Rollout finished", "details": []}


async def post(gateway: Gateway, rollout: str = "r", key: str = "rollout", path: str = "", **fields: Any) -> Answer:
    """One line as the published handlers post it."""
    body = {
        "program": "eval_protocol",
        "status": None,
        "message": "hello",
        "tags": [f"rollout_id:{rollout}", "experiment_id:e", "run_id:n"],
        "extras": {"logger_name": "init", "level": "WARNING", "timestamp": "2026-11-22T08:58:07.904080Z"},
        **fields,
    }
    return await gateway.call("POST", f"{path}/logs", key, json=body)


async def entries(gateway: Gateway, query: str = "tags=rollout_id:r", key: str = "rollout") -> list[dict[str, Any]]:
    answer = await gateway.call("GET", f"/litellm-gateway/logs?{query}", key)
    assert answer.status == 200, answer.body
    return answer.body["entries"]


@pytest.mark.parametrize(
    "path", ["", "/v1", "/inference/v1", "/litellm-gateway", "/litellm-gateway/v1", "/v1/project_id/p", "/project_id/p"]
)
async def test_a_line_comes_back_as_it_was_posted_under_every_prefix(gateway: Gateway, path: str) -> None:
    answer = await post(gateway, status=FINISHED, path=path)
    assert (answer.status, answer.body) == (200, {})
    found = await gateway.call(
        "GET", f"{path}/logs?tags=rollout_id:r&limit=100&hours_back=24&program=eval_protocol", "rollout"
    )
    (entry,) = found.body["entries"]
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "message": "hello",
        "severity": "WARNING",
        "tags": ["rollout_id:r", "experiment_id:e", "run_id:n"],
        "status": FINISHED,
        "extras": {"logger_name": "init", "level": "WARNING", "timestamp": "2026-11-22T08:58:07.904080Z"},
        "program": "eval_protocol",
    }


async def test_no_route_of_the_control_plane_is_taken(gateway: Gateway) -> None:
    for path in ("/v1/accounts/local/logs", "/accounts/a/traces", "/v1/accounts/a/jobs/b/status", "/x/health"):
        answer = await gateway.call("GET", path)
        assert (answer.status, answer.body) == (404, "Not Found"), path


async def test_tags_are_all_required_and_times_and_limits_narrow(gateway: Gateway) -> None:
    for number in range(3):
        await post(gateway, message=f"m{number}", tags=["rollout_id:r", f"run_id:{number}", "rollout_id:s"])
    assert [entry["message"] for entry in await entries(gateway)] == ["m2", "m1", "m0"]
    assert [entry["message"] for entry in await entries(gateway, "tags=rollout_id:s&tags=run_id:1")] == ["m1"]
    assert await entries(gateway, "tags=run_id:1&tags=run_id:2") == []
    assert [entry["message"] for entry in await entries(gateway, "tags=rollout_id:r&limit=2")] == ["m2", "m1"]
    assert await entries(gateway, "program=other") == []
    middle = (await entries(gateway, "tags=run_id:1"))[0]["timestamp"]
    assert datetime.fromisoformat(middle).tzinfo is not None
    assert [entry["message"] for entry in await entries(gateway, f"from_timestamp={middle}")][0] == "m2"
    assert "m2" not in [entry["message"] for entry in await entries(gateway, f"to_timestamp={middle}")]
    assert await entries(gateway, "to_timestamp=2020-01-01T00:00:00") == []
    assert await entries(gateway, "hours_back=0") == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("hours_back=nan", "hours_back"),
        ("from_timestamp=yesterday", "from_timestamp"),
        ("level=INFO", "level"),
        ("&".join(f"tags=t{number}" for number in range(100)), "tags"),
    ],
)
async def test_a_parameter_that_cannot_be_read_is_named(gateway: Gateway, query: str, names: str) -> None:
    answer = await gateway.call("GET", f"/logs?{query}")
    assert answer.status == 400
    assert answer.body["error"]["param"] == names
    assert names in answer.body["detail"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"message": NaN}', "not valid JSON"),
        (b'{"message": "\\ud800", "tags": ["rollout_id:r"]}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"tags": ["rollout_id:r"], "extras": {"x": ' + b"[" * 200 + b"]" * 200 + b"}}", "deep"),
        (b"[" * 100_000, "deep"),
        (b"[1]", "JSON object"),
        (b'{"message": "x"}', "at least one rollout"),
        (b'{"message": "x", "tags": ["run_id:n", "rollout_id:"]}', "at least one rollout"),
        (b'{"message": "x", "tags": ["rollout_id:r", 5]}', "tags"),
        (b'{"message": {}, "tags": ["rollout_id:r"]}', "message"),
        (b'{"extras": [], "tags": ["rollout_id:r"], "program": 3}', "program"),
        (b'{"extras": "x", "tags": ["rollout_id:r"]}', "extras"),
    ],
)
async def test_what_is_no_line_is_400_and_says_why(gateway: Gateway, content: bytes, says: str) -> None:
    answer = await gateway.call("POST", "/logs", data=content)
    assert answer.status == 400
    assert says in answer.body["detail"]
    assert await entries(gateway, "limit=10", "account") == []


async def test_a_post_of_ten_megabytes_is_refused(gateway: Gateway) -> None:
    body = json.dumps({"message": "x" * 10_000_000, "tags": ["rollout_id:r"]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for data in (io.BytesIO(body), pieces()):  # with its length announced, and without
        answer = await gateway.call("POST", "/logs", "rollout", data=data)
        assert answer.status == 413
        assert answer.body["error"]["code"] == "body_too_large"
        assert "1048576 bytes" in answer.body["detail"]
    assert await entries(gateway) == []


async def test_a_refused_body_is_never_held_in_memory() -> None:
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": bytes(100_000), "more_body": sent < 200}

    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await read_limited(Request({"type": "http", "method": "POST", "headers": []}, receive), 1_000_000, "X")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == 200  # 20 MB were read, so that the sender gets to read the refusal
    assert peak < 3_000_000


async def test_long_messages_and_extras_are_cut_with_a_mark(gateway: Gateway) -> None:
    await post(gateway, message="a" * 70_000, extras={"small": 1, "level": "ERROR", "large": "b" * 300_000})
    (entry,) = await entries(gateway)
    assert entry["message"] == "a" * 65536 + "… [cut: 4464 more characters]"
    assert entry["severity"] == "ERROR"
    assert entry["extras"].pop("tunesmith_warning") == "Extras of more than 262144 bytes were cut; left out: large."
    assert entry["extras"] == {"small": 1, "level": "ERROR"}


async def test_lines_beyond_the_bound_are_dropped_and_counted_but_not_a_status(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MOST_LINES", 3)
    monkeypatch.setattr(states, "STATUS_LINES", 2)
    for number in range(3):
        assert (await post(gateway, message=str(number))).body == {}
    assert (await post(gateway, message="3")).body == {"dropped": 1}
    assert (await post(gateway, message="4", tags=["rollout_id:r", "rollout_id:other"])).body == {"dropped": 1}
    assert (await post(gateway, status=FINISHED)).body == {}
    found = await gateway.call("GET", "/logs?tags=rollout_id:r", "rollout")
    assert [entry["message"] for entry in found.body["entries"]] == ["hello", "2", "1", "0"]
    assert found.body["dropped"] == 2
    assert [entry["tags"] for entry in await entries(gateway, "tags=rollout_id:other")] == [["rollout_id:other"]]
    assert (await post(gateway, key="run", message="of another key of the job")).body == {"dropped": 1}
    assert (await post(gateway, key="account", message="of the account")).body == {}
    assert (await post(gateway, status=FINISHED)).status == 200
    spent = await post(gateway, status=FINISHED)
    assert spent.status == 429
    assert "not even its status" in spent.body["detail"]


async def test_two_jobs_and_two_accounts_do_not_see_each_others_lines(gateway: Gateway) -> None:
    for key in ("rollout", "other_run", "account", "other_account"):
        await post(gateway, key=key, message=key)
    seen = {key: [e["message"] for e in await entries(gateway, key=key)] for key in gateway.keys}
    assert seen == {
        "rollout": ["account", "rollout"],
        "run": ["account", "rollout"],
        "other_run": ["account", "other_run"],
        "account": ["account", "other_run", "rollout"],
        "other_account": ["other_account"],
        "internal": ["other_account", "account", "other_run", "rollout"],
    }
    assert (await gateway.call("GET", "/logs", None)).status == 401
    assert (await gateway.call("POST", "/logs", None, json={})).status == 401


async def test_an_anthropic_client_names_its_key_in_its_own_header(gateway: Gateway) -> None:
    assert gateway.session is not None
    for headers in (
        {"x-api-key": gateway.keys["rollout"]},
        {"Authorization": "", "x-api-key": gateway.keys["rollout"]},
    ):
        async with gateway.session.get(f"{gateway.url}/logs", headers=headers) as answer:
            assert answer.status == 200
    async with gateway.session.get(f"{gateway.url}/logs", headers={"x-api-key": "wrong"}) as answer:
        assert answer.status == 401


async def test_acknowledged_lines_survive_kill_9(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    headers = {"Authorization": f"Bearer {load_keys(settings).internal}"}
    port_file = data_dir / "url"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.process", str(data_dir), str(port_file), env={**os.environ}
    )
    while not port_file.exists():
        assert process.returncode is None
        await asyncio.sleep(0.02)
    url, acknowledged = port_file.read_text(), []

    async def client(session: aiohttp.ClientSession, name: int) -> None:
        for number in range(10_000):
            message = f"{name}-{number}"
            body = {"message": message, "tags": [f"rollout_id:r{name}", "run_id:n"], "status": {"code": 101}}
            try:
                async with session.post(f"{url}/logs", json=body) as response:
                    assert response.status == 200
            except (aiohttp.ClientError, OSError):
                return
            acknowledged.append(message)

    async with aiohttp.ClientSession(headers=headers) as session:
        clients = [asyncio.create_task(client(session, name)) for name in range(8)]
        while len(acknowledged) < 100:
            await asyncio.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*clients)
    assert await process.wait() == -signal.SIGKILL
    file = CapturedFile(data_dir / "completions.db")
    try:
        found = LogStore(file).find(LogFilter(["run_id:n"], limit=100_000), None, None)
        assert set(acknowledged) <= {line.message for line in found}
    finally:
        file.close()
