"""Calls to models that are not served here: forwarded byte for byte, recorded all the same, and never with our keys."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tunesmith.db.answers import read_answer
from tunesmith.db.completions import Completion
from tunesmith.db.providers import create_provider
from tunesmith.db.secrets import create_secret
from tunesmith.gateway import passthrough
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.fakes.upstream import CALL, LOGPROBS, USAGE, FakeUpstream
from tests.gateway.conftest import FIVE, Answer, Gateway

ROUTES = ("chat/completions", "responses", "messages")


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, allowed_upstreams=("127.0.0.1",), upstream_timeout_seconds=1.0)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    running = FakeUpstream()
    await running.start()
    yield running
    await running.stop()


def behind(url: str, rollout: str = "r1") -> str:
    encoded = base64.urlsafe_b64encode(url.encode()).decode()
    return f"/litellm-gateway/{FIVE.format(r=rollout)}/encoded_base_url/{encoded}"


def body(route: str, text: str, **fields: Any) -> dict[str, Any]:
    asked = {"input": text} if route == "responses" else {"messages": [{"role": "user", "content": text}]}
    return {"model": "gpt-x", **asked, **fields}


async def passed(
    gateway: Gateway, upstream: FakeUpstream, text: str = "hi", route: str = ROUTES[0], **fields: Any
) -> Answer:
    """One call behind an encoded base URL."""
    return await gateway.call("POST", f"{behind(upstream.url)}/{route}", json=body(route, text, **fields))


async def recorded(gateway: Gateway, count: int = 1, rollout: str = "r1") -> list[Completion]:
    """The records of a rollout, once there are so many: those of cut calls are written after the client left."""
    async with asyncio.timeout(10):
        while len(found := gateway.state.store.of_rollout(rollout)) < count:
            await asyncio.sleep(0.01)
    return found


def provide(gateway: Gateway, url: str, models: list[str], key: str | None = "sk-provider", id: str = "p") -> None:
    """A provider of the account, with its key in a secret."""
    master = load_keys(gateway.state.settings).master
    account = "accounts/local"
    with gateway.state.sessions.begin() as session:
        secret = f"{account}/secrets/{id}"
        if key is not None:
            create_secret(session, account, secret, "KEY", key, master)
        create_provider(session, account, f"{account}/providers/{id}", url, models, secret)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_is_the_upstreams_and_is_recorded(
    gateway: Gateway, upstream: FakeUpstream, route: str, stream: bool
) -> None:
    answer = await passed(
        gateway, upstream, route=route, stream=stream, temperature=0.3, top_k=None, unknown_option=[1]
    )
    text = answer.body if isinstance(answer.body, str) else None
    assert answer.status == 200
    assert upstream.sent
    assert (text.encode() if text is not None else answer.body) == (
        upstream.sent if text is not None else json.loads(upstream.sent)
    )
    assert json.loads(upstream.seen[0][2]) == body(
        route, "hi", stream=stream, temperature=0.3, top_k=None, unknown_option=[1]
    )
    assert upstream.seen[0][0] == f"/v1/{route}"
    (record,) = await recorded(gateway)
    assert (record.model, record.base_model, record.policy_version) == ("gpt-x", upstream.url, None)
    assert (record.prompt_ids, record.sampled_ids, record.status) == ([], [], "complete")
    assert (record.finish_reason, record.temperature, record.text) == ("tool_calls", 0.3, "hello there")
    message = {**record.message}
    assert message.pop("reasoning_content") == "hm"
    (call,) = message.pop("tool_calls")
    assert json.loads(call["function"].pop("arguments")) == {"a": 1}
    assert call == {**CALL, "function": {"name": "add"}}
    assert message == {"role": "assistant", "content": "hello there"}
    assert {name: record.usage[name] for name in USAGE} == USAGE
    assert record.logprobs == ([] if route == "messages" else LOGPROBS)
    assert record.request == body(route, "hi", stream=stream, temperature=0.3, top_k=None, unknown_option=[1])
    assert record.ids.rollout_id == "r1"
    assert record.latency > 0


async def test_bytes_are_not_touched(gateway: Gateway, upstream: FakeUpstream) -> None:
    assert gateway.session is not None
    headers = {"Authorization": f"Bearer {gateway.keys['account']}"}
    sent = b'{ "model":"gpt-x",  "messages":[{"role":"user","content":"caf\\u00e9"}] }'
    async with gateway.session.post(
        f"{gateway.url}{behind(upstream.url)}/chat/completions", data=sent, headers=headers
    ) as response:
        assert await response.read() == upstream.sent
        assert response.headers["x-request-id"] == "up-1"
        assert response.headers["x-ratelimit-remaining-tokens"] == "9"
        assert "set-cookie" not in response.headers
    assert upstream.seen[0][2] == sent


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_no_key_of_ours_leaves(gateway: Gateway, upstream: FakeUpstream, header: str) -> None:
    """Everything that reaches the upstream, headers and body, is searched for every key that this platform has."""
    assert gateway.session is not None
    own = load_keys(gateway.state.settings)
    ours = {*gateway.keys.values(), own.internal, own.engine, own.master.hex(), own.pepper.hex()}
    for key in gateway.keys.values():
        headers = {header: f"Bearer {key}" if header == "authorization" else key, "cookie": f"k={key}", "x-other": key}
        for fields in ({}, {"api_key": "sk-own"}, {"stream": True}):
            async with gateway.session.post(
                f"{gateway.url}{behind(upstream.url, key[:6])}/chat/completions?key={key}",
                json=body(ROUTES[0], "hi", **fields),
                headers=headers,
            ) as response:
                assert response.status == 200, await response.text()
                await response.read()
            path, seen, raw = upstream.seen[-1]
            everything = path + repr(seen) + raw.decode()
            assert not [key for key in ours if key in everything]
            sent = seen.get("authorization") or seen.get("x-api-key")
            assert (sent or "").removeprefix("Bearer ") == fields.get("api_key", "")
            assert (header in seen) == ("api_key" in fields)
    for key in [gateway.keys["account"], gateway.keys["internal"], own.engine]:
        refused = await passed(gateway, upstream, api_key=key)
        assert refused.status == 400
        assert key not in str(refused.body)
        assert refused.body["error"]["param"] == "api_key"
    for fields in ({"extra": gateway.keys["account"]}, {"extra_body": {"k": f"Bearer {gateway.keys['account']}"}}):
        assert (await passed(gateway, upstream, **fields)).status == 400
    assert len(upstream.seen) == 3 * len(gateway.keys)


async def test_a_brought_key_is_not_stored(gateway: Gateway, upstream: FakeUpstream) -> None:
    await passed(gateway, upstream, api_key="sk-brought-1")
    assert gateway.session is not None
    headers = {"Authorization": f"Bearer {gateway.keys['account']}", "x-upstream-api-key": "sk-brought-2"}
    async with gateway.session.post(
        f"{gateway.url}{behind(upstream.url)}/chat/completions", json=body(ROUTES[0], "hi"), headers=headers
    ) as response:
        assert response.status == 200
    assert [seen["authorization"] for _, seen, _ in upstream.seen] == ["Bearer sk-brought-1", "Bearer sk-brought-2"]
    await recorded(gateway, 2)
    folder = gateway.state.settings.data_dir
    stored = b"".join(path.read_bytes() for path in [*folder.glob("*.db*"), *folder.glob("answers/*")])
    assert upstream.sent in stored
    assert b"gpt-x" in stored
    assert b"sk-brought" not in stored


async def test_a_provider_answers_for_its_models(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["gpt-*", "o3"])
    for model, status in (("gpt-x", 200), ("fireworks_ai/gpt-x", 200), ("o3", 200), ("o3-mini", 404)):
        answer = await gateway.call("POST", "/v1/chat/completions", json={**body(ROUTES[0], "hi"), "model": model})
        assert answer.status == status, answer.body
    assert [json.loads(raw)["model"] for _, _, raw in upstream.seen] == ["gpt-x", "gpt-x", "o3"]
    assert {seen["authorization"] for _, seen, _ in upstream.seen} == {"Bearer sk-provider"}
    other = await gateway.call("POST", "/v1/chat/completions", "other_account", json=body(ROUTES[0], "hi"))
    assert other.status == 404  # another account's provider
    rollout = await gateway.call("POST", "/v1/chat/completions", "rollout", json=body(ROUTES[0], "hi"))
    assert rollout.status == 200


async def test_a_providers_key_goes_to_its_origin_only(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["other-*"])
    await passed(gateway, upstream, api_key="sk-own")
    assert upstream.seen[-1][1]["authorization"] == "Bearer sk-provider"
    second = FakeUpstream()
    await second.start()
    try:
        await passed(gateway, second)
        await passed(gateway, second, api_key="sk-own")
    finally:
        await second.stop()
    assert [seen.get("authorization") for _, seen, _ in second.seen] == [None, "Bearer sk-own"]


async def test_a_provider_without_its_secret_says_so(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["*"], key=None)
    answer = await gateway.call("POST", "/v1/chat/completions", json=body(ROUTES[0], "hi"))
    assert answer.status == 400
    assert "accounts/local/secrets/p" in answer.body["error"]["message"]
    assert upstream.seen == []


async def test_what_is_served_here_stays_here(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["*"])
    assert (await gateway.chat("say hi", behind(upstream.url))).body["choices"][0]["message"]["content"] == "hi"
    for name in ("accounts/local/models/none", "fireworks_ai/accounts/x/models/y"):
        answer = await gateway.chat("say hi", behind(upstream.url), model=name)
        assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")
    assert upstream.seen == []


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://127.0.0.2:1", "http://[::1]/v1", "http://10.0.0.1", "http://2130706433"],
)
async def test_private_upstreams_are_refused(gateway: Gateway, url: str) -> None:
    for route in ROUTES:
        answer = await gateway.call("POST", f"{behind(url)}/{route}", json=body(route, "hi"))
        assert answer.status == 403, answer.body
        text = json.dumps(answer.body)
        assert "TUNESMITH_ALLOWED_UPSTREAMS" in text or "stands for an address" in text
        if route == ROUTES[0]:
            assert answer.body["error"]["code"] == "upstream_refused"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "api.openai.com", "http://a b"])
async def test_what_is_no_url_is_a_bad_request(gateway: Gateway, url: str) -> None:
    answer = await gateway.call("POST", f"{behind(url)}/chat/completions", json=body(ROUTES[0], "hi"))
    assert answer.status == 400


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
async def test_upstream_errors_pass_and_are_noted(
    gateway: Gateway, upstream: FakeUpstream, status: int, stream: bool
) -> None:
    answer = await passed(gateway, upstream, f"error {status}", stream=stream)
    assert (answer.status, answer.body) == (status, {"error": {"message": "upstream says no"}})
    assert {name.lower(): value for name, value in answer.headers.items()}["retry-after"] == "7"
    (record,) = await recorded(gateway)
    assert (record.status, record.finish_reason, record.usage) == ("aborted", "error", {})
    assert record.params["status"] == status
    assert "upstream says no" in record.params["error"]


@pytest.mark.parametrize(
    ("text", "stream", "status", "says"),
    [
        ("redirect", False, 502, "redirect"),
        ("html", False, 502, "text/html"),
        ("html", True, 502, "text/html"),
        ("reset", False, 502, "broke off"),
        ("silent", False, 504, "too long"),
        ("huge", False, 502, "larger than"),
        ("bomb", False, 502, "larger than"),
    ],
)
async def test_broken_answers_are_clear_errors(
    gateway: Gateway,
    upstream: FakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    stream: bool,
    status: int,
    says: str,
) -> None:
    monkeypatch.setattr(passthrough, "MAX_ANSWER_BYTES", 1_000_000)
    answer = await passed(gateway, upstream, text, stream=stream)
    assert answer.status == status, answer.body
    assert says in answer.body["error"]["message"]
    assert upstream.url in answer.body["error"]["message"]
    (record,) = await recorded(gateway)
    assert (record.status, record.finish_reason) == ("aborted", "error")
    assert says in record.params["error"]


@pytest.mark.parametrize(
    ("text", "says"), [("reset", "upstream"), ("open", "before the answer was whole"), ("text", "cannot be read")]
)
async def test_broken_streams_end_in_an_error_event(
    gateway: Gateway, upstream: FakeUpstream, text: str, says: str
) -> None:
    answer = await passed(gateway, upstream, text, stream=True)
    if answer.status == 200:
        last = json.loads(answer.body.rstrip().rsplit("data: ", 1)[-1])
        assert "[DONE]" not in answer.body
    else:  # the event that cannot be read came with the first bytes
        assert (answer.status, text) == (502, "text")
        last = answer.body
    assert says in last["error"]["message"]
    (record,) = await recorded(gateway)
    assert (record.status, record.finish_reason, record.text) == ("aborted", "error", "hello")
    assert record.usage["estimated"] is True


async def test_nobody_there(gateway: Gateway, upstream: FakeUpstream) -> None:
    await upstream.stop()
    answer = await passed(gateway, upstream)
    assert answer.status == 502
    assert answer.body["error"]["code"] == "upstream_failed"
    assert "did not answer" in answer.body["error"]["message"]


async def test_a_client_that_leaves_is_a_cut(gateway: Gateway, upstream: FakeUpstream) -> None:
    assert gateway.session is not None
    headers = {"Authorization": f"Bearer {gateway.keys['account']}"}
    url = f"{gateway.url}{behind(upstream.url)}/chat/completions"
    async with gateway.session.post(url, json=body(ROUTES[0], "slow", stream=True), headers=headers) as response:
        await upstream.waiting.wait()
        async for line in response.content:
            if b"hello" in line:
                break
    (record,) = await recorded(gateway)
    assert (record.status, record.finish_reason, record.text) == ("aborted", "abort", "hello")
    upstream.waiting.clear()
    with pytest.raises(aiohttp.ServerTimeoutError):
        await gateway.session.post(
            url,
            json=body(ROUTES[0], "silent"),
            headers=headers,
            timeout=aiohttp.ClientTimeout(sock_read=0.2),
        )
    records = await recorded(gateway, 2)
    assert [(c.turn, c.status, c.text) for c in records] == [(0, "aborted", "hello"), (1, "aborted", "")]


async def test_the_last_event_waits_for_the_record(
    gateway: Gateway, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[str] = []
    proceed = asyncio.Event()
    add = gateway.state.store.add

    async def slow_add(records: list[Completion]) -> None:
        answer = records[0].answer
        assert answer is not None
        assert records[0].status == "complete"
        committed.append(read_answer("chat", True, b"".join(answer.parts)).candidate().content)
        await proceed.wait()
        await add(records)

    monkeypatch.setattr(gateway.state.store, "add", slow_add)
    assert gateway.session is not None
    url = f"{gateway.url}{behind(upstream.url)}/chat/completions"
    headers = {"Authorization": f"Bearer {gateway.keys['account']}"}
    got = b""
    async with gateway.session.post(url, json=body(ROUTES[0], "hi", stream=True), headers=headers) as response:
        async for data in response.content.iter_any():
            got += data
            if committed and not proceed.is_set():
                assert b'tool_calls"}' not in got
                proceed.set()
            elif not committed and b'{\\"a\\":' in got and not proceed.is_set():
                while not committed:
                    await asyncio.sleep(0.001)
                assert b'"finish_reason": "tool_calls"' not in got
                proceed.set()
    assert got == upstream.sent
    assert committed == ["hello there"]


async def test_usage_counts_against_the_budget(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["*"])
    for stream, usage in ((False, True), (True, True), (False, False), (True, False)):
        upstream.usage = usage
        before = await gateway.state.store.tokens_of_job("accounts/local", "job1")
        path = f"/v1/{FIVE.format(r='b')}/chat/completions"
        answer = await gateway.call("POST", path, "rollout", json=body(ROUTES[0], "hi", stream=stream))
        assert answer.status == 200
        counted = await gateway.state.store.tokens_of_job("accounts/local", "job1") - before
        assert counted == 14 if usage else counted > 10  # without figures of the upstream's the size is estimated


async def test_a_rollout_with_passed_calls_goes_on_after_a_restart(gateway: Gateway, upstream: FakeUpstream) -> None:
    provide(gateway, upstream.url, ["gpt-*"])
    path = f"/v1/{FIVE.format(r='again')}"
    await gateway.chat("say one", path)
    await gateway.call("POST", f"{path}/responses", json=body("responses", "hi"))
    gateway.state.rollouts._rollouts.clear()  # what a new process knows
    assert (await gateway.chat("say two", path)).status == 200
    assert [c["turn"] for c in await gateway.completions("again")] == [0, 1, 2]


@pytest.mark.parametrize("stream", [False, True])
async def test_several_candidates_are_a_record_each(gateway: Gateway, upstream: FakeUpstream, stream: bool) -> None:
    answer = await passed(gateway, upstream, n=2, stream=stream)
    assert answer.status == 200
    if stream:
        assert answer.body.encode() == upstream.sent
    first, second = await recorded(gateway, 2)
    assert [(c.index, c.text, c.finish_reason, c.logprobs) for c in (first, second)] == [
        (index, "hello there", "tool_calls", LOGPROBS) for index in (0, 1)
    ]
    assert (first.usage["completion_tokens"], second.usage) == (3, {})


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_read_later_is_what_is_read_at_once(
    gateway: Gateway, upstream: FakeUpstream, route: str, stream: bool
) -> None:
    """A job's call whose upstream does not count is read for its budget before it is committed, an account's when it is asked for."""
    provide(gateway, upstream.url, ["*"])
    upstream.usage = False
    found: dict[str, Completion] = {}
    for key in ("account", "rollout"):
        path = f"/v1/{FIVE.format(r=key)}/{route}"
        assert (await gateway.call("POST", path, key, json=body(route, "hi", stream=stream))).status == 200
        (found[key],) = await recorded(gateway, rollout=key)
    later, at_once = found["account"], found["rollout"]
    assert at_once.usage["estimated"] is True
    for name in ("text", "message", "finish_reason", "logprobs", "usage", "params", "request", "tokens"):
        assert getattr(later, name) == getattr(at_once, name), name
    usage = later.usage
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    store = gateway.state.store
    assert {store.usage_of(key)["total_tokens"] for key in found} == {total}
    assert await store.tokens_of_job("accounts/local", "job1") == total
    traces = await gateway.call("GET", "/v1/traces/pointwise?tags=rollout_id:account")
    (trace,) = traces.body["traces"]
    assert trace["output"] == later.message
    assert trace["metadata"]["rollout_usage"]["total_tokens"] == total
