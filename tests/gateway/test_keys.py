"""A job's rollout key: its budget in tokens, counted over restarts, and its end."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest
from tunesmith.db.api_keys import delete_keys_of_job, new_key
from tunesmith.db.users import create_user, delete_user
from tunesmith.gateway import GatewayState, auth
from tunesmith.storage.keys import load_keys

from tests.gateway.conftest import FIVE, Gateway, serve

JOB = "accounts/local/reinforcementFineTuningJobs/job1"


def bounded_key(gateway: Gateway, budget: int) -> str:
    """A rollout key of job1 with a budget."""
    scope = {"kind": "rollout", "job": JOB, "budget": budget}
    with gateway.state.sessions.begin() as session:
        return new_key(session, "accounts/local", scope, "", None, load_keys(gateway.state.settings).pepper)[1]


async def spend(gateway: Gateway, name: str, key: str, rollout: str = "r") -> int:
    """One call; returns the tokens that it used."""
    answer = await gateway.chat("say hi", "/" + FIVE.format(r=rollout), key, model=name)
    assert answer.status == 200, answer.body
    return answer.body["usage"]["total_tokens"]


async def test_a_spent_budget_refuses_the_jobs_rollout_key_and_nothing_else(gateway: Gateway) -> None:
    name = await gateway.publish()
    used = await spend(gateway, name, "rollout")
    key = bounded_key(gateway, 2 * used + 1)
    assert [await spend(gateway, name, key, f"r{n}") for n in range(2)] == [used, used]
    refused = await gateway.chat("say hi", "/" + FIVE.format(r="r3"), key, model=name)
    assert refused.status == 429
    assert refused.body["error"]["code"] == "budget_exhausted"
    assert f"{3 * used} of {2 * used + 1} tokens" in refused.body["error"]["message"]
    assert "retry-after" not in {header.lower() for header in refused.headers}
    assert (await gateway.call("GET", "/status?rollout_id=r", key)).status == 200
    assert (await gateway.call("POST", "/logs", key, json={"message": "m", "tags": ["rollout_id:r"]})).status == 200
    assert await spend(gateway, name, "rollout", "of a key without a budget") == used
    assert await spend(gateway, name, "account", "of the account") == used


async def test_every_candidate_counts_and_a_prompt_once(gateway: Gateway) -> None:
    await gateway.publish()  # from now on the job's key reaches the job's base model
    answer = await gateway.chat("say hi", key="rollout", n=3)
    usage = answer.body["usage"]
    spent = await gateway.state.store.tokens_of_job("accounts/local", "job1")
    assert spent == usage["prompt_tokens"] + usage["completion_tokens"]
    again = await gateway.chat("say hi", key="rollout")
    spent += again.body["usage"]["total_tokens"]
    assert await gateway.state.store.tokens_of_job("accounts/local", "job1") == spent
    assert await gateway.state.store.tokens_of_job("accounts/local", "job2") == 0
    assert await gateway.state.store.tokens_of_job("accounts/other", "job1") == 0


async def test_calls_at_once_are_all_counted(gateway: Gateway) -> None:
    name = await gateway.publish()
    used = await asyncio.gather(*(spend(gateway, name, "rollout", f"r{n}") for n in range(20)))
    assert await gateway.state.store.tokens_of_job("accounts/local", "job1") == sum(used)


async def test_what_was_spent_is_known_after_a_restart(gateway: Gateway) -> None:
    name = await gateway.publish()
    used = await spend(gateway, name, "rollout")
    key = bounded_key(gateway, used)
    state = GatewayState(gateway.state.settings)
    server, task, gateway.url = await serve(state)
    try:
        assert (await gateway.chat("say hi", "/" + FIVE.format(r="r"), key, model=name)).status == 429
    finally:
        server.should_exit = True
        await task


async def test_the_openai_client_does_not_try_a_spent_budget_again(gateway: Gateway) -> None:
    name = await gateway.publish()
    used = await spend(gateway, name, "rollout")
    base = f"{gateway.url}/litellm-gateway/{FIVE.format(r='r')}"
    async with openai.AsyncOpenAI(base_url=base, api_key=bounded_key(gateway, used), max_retries=5) as client:
        tried = 0

        async def count(_request: object) -> None:
            nonlocal tried
            tried += 1

        client._client.event_hooks["request"].append(count)
        with pytest.raises(openai.RateLimitError, match="has spent its budget"):
            await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
        assert tried == 1


async def test_a_rollout_key_opens_nothing_internal_and_no_other_jobs_policy(gateway: Gateway) -> None:
    name = await gateway.publish()
    await gateway.publish("other_run", job="job2")
    for method, path in (("GET", "/internal/rollouts/r/completions"), ("GET", "/internal/gateway")):
        assert (await gateway.call(method, path, "rollout")).status == 403
        assert (await gateway.call(method, path, "run")).status == 200
    close = {"json": {"rollout_ids": ["r"]}}
    assert (await gateway.call("POST", "/internal/rollouts:close", "rollout", **close)).status == 403
    path = "/" + FIVE.format(r="r")
    assert (await gateway.chat("x", path, "rollout", model=name.replace("job1", "job2"))).status == 403


async def test_the_gateways_uptime_starts_anew_with_its_process(gateway: Gateway) -> None:
    async def uptime() -> float:
        return (await gateway.call("GET", "/internal/gateway", "run")).body["uptime_seconds"]

    before, after = await uptime(), await uptime()
    assert 0 < before < after
    state = GatewayState(gateway.state.settings)
    server, task, gateway.url = await serve(state)
    try:
        fresh = await uptime()
        assert 0 < fresh <= time.monotonic() - state.started
        assert fresh < time.monotonic() - gateway.state.started
    finally:
        server.should_exit = True
        await task


async def test_a_jobs_keys_end_with_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_SECONDS", 0.0)
    assert (await gateway.call("GET", "/logs", "rollout")).status == 200
    with gateway.state.sessions.begin() as session:
        delete_keys_of_job(session, JOB)
    for key, status in (("rollout", 401), ("run", 401), ("other_run", 200), ("account", 200)):
        assert (await gateway.call("GET", "/logs", key)).status == status


def users_key(gateway: Gateway, role: str, preset: str | None = None) -> str:
    """A key of a user of that role."""
    user = f"accounts/local/users/{role}-{preset}"
    with gateway.state.sessions.begin() as session:
        values = {"role": role, "display_name": "", "email": "", "permission_preset": preset}
        create_user(session, "accounts/local", user, service_account=preset is not None, **values)
        pepper = load_keys(gateway.state.settings).pepper
        return new_key(session, "accounts/local", {"kind": "account"}, "", None, pepper, user=user)[1]


@pytest.mark.parametrize(
    ("role", "preset", "reads", "posts"),
    [
        ("admin", None, 200, 200),
        ("user", None, 200, 200),
        ("contributor", None, 200, 200),
        ("user", "pilot", 200, 403),
        ("inference-user", None, 403, 403),
    ],
)
async def test_every_role_makes_model_calls_and_not_everyone_sees_records(
    gateway: Gateway, role: str, preset: str | None, reads: int, posts: int
) -> None:
    key, name = users_key(gateway, role, preset), gateway.promote("tuned")
    assert (await gateway.chat(key=key, model=name)).status == 200
    assert (await gateway.call("GET", "/v1/models", key)).status == 200
    for path in ("/logs?tags=a", "/status?rollout_id=r", "/v1/traces", "/v1/traces/pointwise?rollout_id=r"):
        answer = await gateway.call("GET", path, key)
        assert (answer.status == 403) == (reads == 403), (path, answer.body)
    posted = await gateway.call("POST", "/logs", key, json={"message": "m", "tags": ["rollout_id:r"]})
    assert posted.status == posts, posted.body
    assert (await gateway.call("GET", "/internal/gateway", key)).status == 403
    # A folder, or a download, is for those who may do more than call what is there.
    assert (await gateway.chat(key=key)).status == (404 if role == "inference-user" else 200)


async def test_a_deleted_users_key_ends(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_SECONDS", 0.0)
    key = users_key(gateway, "user")
    assert (await gateway.call("GET", "/v1/models", key)).status == 200
    with gateway.state.sessions.begin() as session:
        delete_user(session, "accounts/local/users/user-None")
    assert (await gateway.call("GET", "/v1/models", key)).status == 401
