"""`GET …/status`: derived from the posted lines, reopened by a call after an error, waited for, read back after a restart."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tunesmith.db.captured import CapturedFile
from tunesmith.db.rollout_logs import LogLine, LogStore
from tunesmith.gateway import GatewayState
from tunesmith.gateway.states import RolloutClosed, RolloutStates

from tests.gateway.conftest import FIVE, Gateway, serve
from tests.gateway.test_logs import FINISHED, post

FAILED = {"code": 13, "message": "it broke", "details": [{"reason": "x"}]}


def ids(rollout: str) -> str:
    return "/" + FIVE.format(r=rollout)


async def status(gateway: Gateway, rollout: str = "r", key: str = "rollout", more: str = "") -> Any:
    answer = await gateway.call("GET", f"/litellm-gateway/v1/status?rollout_id={rollout}{more}", key)
    assert answer.status == 200, answer.body
    assert answer.body["rollout_id"] == rollout
    return answer.body["status"]


async def test_unknown_rollouts_have_no_status(gateway: Gateway) -> None:
    answer = await gateway.call("GET", "/v1/status?rollout_id=nobody")
    assert (answer.status, answer.body) == (
        200,
        {"rollout_id": "nobody", "status": None, "message": None, "extras": None},
    )
    assert (await gateway.call("GET", "/v1/status")).status == 400
    assert (await gateway.call("GET", "/v1/status?rollout_id=r&wait=61")).status == 400
    assert (await gateway.call("GET", "/v1/status?rollout_id=r", None)).status == 401


async def test_the_latest_line_with_a_status_wins_and_brings_its_extras(gateway: Gateway) -> None:
    await post(gateway, status={"code": 101, "message": "on it"})
    assert await status(gateway) == {"code": 101, "message": "on it", "details": []}
    await post(gateway, status=FINISHED, extras={"score": 1})
    await post(gateway, message="chatter")
    answer = await gateway.call("GET", "/status?rollout_id=r", "rollout")
    assert answer.body == {"rollout_id": "r", "status": FINISHED, "message": "hello", "extras": {"score": 1}}
    await post(gateway, status=FAILED)
    assert await status(gateway) == FAILED


@pytest.mark.parametrize(
    "posted", [{"code": None}, {"code": "100"}, {"code": 99}, {"code": 100.5}, {"code": True}, {}, "done", 100, [100]]
)
async def test_what_is_no_status_reaches_no_client_and_leaves_a_warning(gateway: Gateway, posted: Any) -> None:
    await post(gateway, status={"code": 101})
    assert (await post(gateway, status=posted)).status == 200
    assert (await status(gateway))["code"] == 101
    found = await gateway.call("GET", "/logs?tags=rollout_id:r", "rollout")
    newest = found.body["entries"][0]
    assert newest["status"] is None
    assert "was ignored" in newest["extras"]["tunesmith_warning"]


async def test_a_model_call_after_an_error_reopens_and_one_after_success_does_not(gateway: Gateway) -> None:
    await post(gateway, key="account", status=FAILED)
    assert (await gateway.chat("say hi", ids("r"))).status == 200
    assert (await status(gateway, key="account"))["code"] == 101
    await post(gateway, key="account", status=FINISHED)
    assert (await gateway.chat("say hi", ids("r"))).status == 200
    assert (await status(gateway, key="account")) == FINISHED
    found = await gateway.call("GET", "/logs?tags=rollout_id:r&program=tunesmith")
    assert ["running again" in entry["message"] for entry in found.body["entries"]] == [True]


async def test_calls_at_once_reopen_once(gateway: Gateway) -> None:
    await post(gateway, key="account", status=FAILED)
    answers = await asyncio.gather(*(gateway.chat("say hi", ids("r")) for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    found = await gateway.call("GET", "/logs?tags=rollout_id:r&program=tunesmith")
    assert len(found.body["entries"]) == 1


async def test_another_jobs_status_is_not_seen_and_its_accounts_is(gateway: Gateway) -> None:
    await post(gateway, key="other_run", status=FAILED)
    assert await status(gateway, key="rollout") is None
    assert (await status(gateway, key="account")) == FAILED
    await post(gateway, key="account", status=FINISHED)
    assert await status(gateway, key="rollout") == FINISHED
    assert await status(gateway, key="other_account") is None


async def test_waiting_ends_with_the_terminal_status_and_not_before(gateway: Gateway) -> None:
    waiting = asyncio.create_task(status(gateway, more="&wait=30"))
    other = asyncio.create_task(status(gateway, key="other_run", more="&wait=30"))
    while len(_state(gateway, "r").waiters) < 2:
        await asyncio.sleep(0.005)
    await post(gateway, status={"code": 101})
    assert not waiting.done()
    await post(gateway, status=FINISHED)
    assert await asyncio.wait_for(waiting, 5) == FINISHED
    assert not other.done()
    other.cancel()
    assert await status(gateway, more="&wait=60") == FINISHED
    assert await status(gateway, "unknown", more="&wait=0.05") is None


async def test_a_client_that_leaves_is_waited_for_no_more(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.keys['rollout']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        asking = asyncio.create_task(session.get(f"{gateway.url}/status?rollout_id=r&wait=60"))
        while ("accounts/local", "r") not in gateway.state.states._states or not _state(gateway, "r").waiters:
            await asyncio.sleep(0.005)
        asking.cancel()
    async with asyncio.timeout(5):
        while _state(gateway, "r").waiters or _state(gateway, "r").pinned:
            await asyncio.sleep(0.005)


def _state(gateway: Gateway, rollout: str) -> Any:
    task = gateway.state.states._states.get(("accounts/local", rollout))
    return task.result() if task and task.done() else _Nobody()


class _Nobody:
    waiters: frozenset[Any] = frozenset()
    pinned = 1


async def test_a_restarted_gateway_gives_the_same_status(gateway: Gateway) -> None:
    await post(gateway, status=FINISHED)
    await post(gateway, "reopened", status=FAILED)
    name = await gateway.publish()
    assert (await gateway.chat("say hi", ids("reopened"), "rollout", model=name)).status == 200
    await gateway.completions("closed")
    state = GatewayState(gateway.state.settings)
    server, task, gateway.url = await serve(state)
    try:
        assert await status(gateway) == FINISHED
        assert (await status(gateway, "reopened"))["code"] == 101
        assert (await gateway.chat("say hi", ids("closed"))).status == 409
    finally:
        server.should_exit = True
        await task


async def test_a_closed_rollout_takes_no_call(gateway: Gateway) -> None:
    name = await gateway.publish()
    assert (await gateway.chat("say hi", ids("r"), "rollout", model=name)).status == 200
    await gateway.call("GET", "/internal/rollouts/r/completions", "other_run")
    assert (await gateway.chat("say hi", ids("r"), "rollout", model=name)).status == 200
    read = await gateway.call("GET", "/internal/rollouts/r/completions", "run")
    assert len(read.body["completions"]) == 2
    refused = await gateway.chat("say hi", ids("r"), "rollout", model=name)
    assert (refused.status, refused.body["error"]["code"]) == (409, "rollout_closed")
    assert refused.headers["x-should-retry"] == "false"
    assert "r is closed" in refused.body["error"]["message"]
    assert len((await gateway.call("GET", "/internal/rollouts/r/completions", "run")).body["completions"]) == 2
    assert (await gateway.chat("say hi", ids("r-t1"), "rollout", model=name)).status == 200


@pytest.mark.parametrize("seed", range(6))
async def test_any_sequence_of_events_gives_what_the_rules_say(tmp_path: Path, seed: int) -> None:
    """Posts, calls, fetches and restarts at random, against the rules written down plainly over the list of events."""
    rng = random.Random(seed)
    file = CapturedFile(tmp_path / "c.db")
    jobs = ["j", "k", None]
    events: list[tuple[str, str | None, int]] = []
    """(what, job, code) of everything that changed anything, in order."""

    def expected(reader: str | None) -> int | None:
        codes = [code for what, job, code in events if what == "status" and (reader is None or job in (None, reader))]
        return codes[-1] if codes else None

    def closed(job: str | None) -> bool:
        return any(what == "closed" and owner in (None, job) for what, owner, _ in events)

    store = LogStore(file)
    states = RolloutStates(store)
    try:
        for _ in range(150):
            job, what = rng.choice(jobs), rng.choice(["post", "post", "chatter", "call", "call", "fetch", "restart"])
            if what in ("post", "chatter"):
                code = rng.choice([0, 1, 4, 13, 14, 16, 100, 101, 101, 102, 103])
                given = {"code": code, "message": "", "details": []} if what == "post" else None
                values = {"program": "p", "message": "", "severity": "INFO", "extras": {}, "tags": ["rollout_id:r"]}
                await states.post(LogLine(id=store.next_id(), account="a", job=job, status=given, **values))
                events += [("status", job, code)] if given else []
            elif what == "call":
                try:
                    await states.admit("a", job, "r")
                    assert not closed(job)
                    if expected(job) not in (None, 0, 100, 101, 102):
                        events.append(("status", job, 101))
                except RolloutClosed:
                    assert closed(job)
            elif what == "fetch" and rng.random() < 0.15:  # seldom: a closed rollout is a dull one
                await states.close("a", job, "r", always=False)
                events += [("closed", job, 0)] if expected(job) in (0, 100, 102) else []
            elif what == "restart":
                store = LogStore(file)
                states = RolloutStates(store)
            for reader in jobs:
                line = await states.status("a", reader, "r")
                assert (line.status["code"] if line and line.status else None) == expected(reader)
            assert await states.status("other", None, "r") is None
    finally:
        file.close()
