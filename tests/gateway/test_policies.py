"""Live policies and promoted models: publishing, the rules of calls, engines that lose their adapters."""

from __future__ import annotations

import pytest
from tunesmith.db.policies import get_model
from tunesmith.gateway.adapters import MAX_PROMOTED
from tunesmith.gateway.models import PROMOTED_MARK
from tunesmith.gateway.rollouts import noise_seed

from tests.gateway.conftest import FIVE, Gateway


def ids(rollout: str) -> str:
    return "/" + FIVE.format(r=rollout)


async def test_a_policy_samples_as_its_job_says(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 0.5, "max_tokens": 4, "stop": ["zz"]})
    answer = await gateway.chat(
        "count",
        ids("r-a0"),
        "rollout",
        model=name,
        temperature=0.1,
        max_tokens=99,
        stop="a",
        top_p=0.3,
        top_k=2,
        seed=1,
    )
    assert answer.body["usage"]["completion_tokens"] == 4
    sent = gateway.engine.generated[0]
    assert (sent["temperature"], sent["max_tokens"], sent["stop"], sent["top_p"], sent["top_k"]) == (
        0.5, 4, ["zz"], 1.0, 0,
    )  # fmt: skip
    assert sent["model"] == name
    assert sent["seed"] == noise_seed(7, "r-a0", 0)
    (stored,) = await gateway.completions("r-a0")
    assert (stored["model"], stored["policy_version"], stored["temperature"]) == (name, 0, 0.5)
    assert stored["prompt_ids"] == sent["prompt_ids"]
    assert len(stored["sampled_ids"]) == len(stored["logprobs"]) == 4
    assert gateway.state.store.of_rollout("r-a0")[0].params["max_tokens"] == 4


async def test_no_rollout_grows_beyond_the_context_that_its_job_allows(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"max_tokens": 20})
    plain = await gateway.chat("say hi", ids("r1"), "rollout", model=name)
    prompt = plain.body["usage"]["prompt_tokens"]
    name = await gateway.publish(version=1, sampling={"max_tokens": 20, "max_context_length": prompt + 3})
    assert (await gateway.chat("say hi", ids("r2"), "rollout", model=name)).status == 200
    assert [sent["max_tokens"] for sent in gateway.engine.generated] == [20, 3]
    longer = await gateway.chat("say hi to all of them", ids("r3"), "rollout", model=name)
    assert (longer.status, longer.body["error"]["code"]) == (400, "context_length_exceeded")


async def test_what_the_job_leaves_open_the_agent_decides(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 0.5})
    await gateway.chat("say hi", ids("r"), "rollout", model=name, max_tokens=11, temperature=2)
    assert (gateway.engine.generated[0]["temperature"], gateway.engine.generated[0]["max_tokens"]) == (0.5, 11)


def test_noise_depends_on_seed_rollout_and_turn_but_not_on_the_attempt() -> None:
    assert noise_seed(1, "job-3-0-a0", 2) == noise_seed(1, "job-3-0-a7", 2)
    different = {noise_seed(s, r, t) for s in (1, 2) for r in ("job-3-0-a0", "job-3-1-a0") for t in (0, 1)}
    assert len(different) == 8
    assert all(0 <= seed < 2**64 for seed in different)


async def test_calls_to_a_policy_need_a_rollout_and_one_candidate(gateway: Gateway) -> None:
    name = await gateway.publish()
    without = await gateway.chat(model=name)
    assert (without.status, without.body["error"]["code"]) == (400, "rollout_id_required")
    many = await gateway.chat(path=ids("r"), model=name, n=2)
    assert (many.status, many.body["error"]["param"]) == (400, "n")
    assert await gateway.completions("r") == []


async def test_a_retired_policy_is_410_until_it_is_put_back(gateway: Gateway) -> None:
    name = await gateway.publish()
    assert (await gateway.chat(path=ids("r"), model=name)).status == 200
    for _ in range(2):
        gone = await gateway.call("DELETE", f"/internal/policies?name={name}", "run")
        assert (gone.status, gone.body) == (200, {})
    answer = await gateway.chat(path=ids("r"), model=name)
    assert (answer.status, answer.body["error"]["type"]) == (410, "gone_error")
    assert gateway.engine.unloaded == [name]
    await gateway.publish()
    assert (await gateway.chat(path=ids("r"), model=name)).status == 200
    missing = await gateway.call("DELETE", "/internal/policies?name=accounts/local/models/job1-v9", "run")
    assert missing.status == 404


async def test_who_may_use_a_policy(gateway: Gateway) -> None:
    name = await gateway.publish()
    expected = {"account": 200, "run": 200, "rollout": 200, "internal": 200, "other_run": 403, "other_account": 404}
    for key, status in expected.items():
        assert (await gateway.chat(path=ids("r"), key=key, model=name)).status == status, key


async def test_publishing_is_idempotent_and_names_are_immutable(gateway: Gateway) -> None:
    await gateway.publish()
    await gateway.publish()
    other = gateway.policy(fill=5.0)
    answer = await gateway.call("PUT", "/internal/policies", "run", json=other)
    assert answer.status == 409
    assert answer.headers["x-should-retry"] == "false"


async def test_weights_that_are_not_what_they_are_said_to_be_are_not_served(gateway: Gateway) -> None:
    body = gateway.policy() | {"sha256": "0" * 64}
    answer = await gateway.call("PUT", "/internal/policies", "run", json=body)
    assert answer.status == 409
    assert gateway.engine.adapters == {}
    assert (await gateway.chat(path=ids("r"), model=body["name"])).status == 404


@pytest.mark.parametrize("key", ["account", "rollout", "other_run"])
async def test_internal_routes_open_to_the_jobs_run_key_only(gateway: Gateway, key: str) -> None:
    body = gateway.policy()
    assert (await gateway.call("PUT", "/internal/policies", key, json=body)).status == 403
    await gateway.publish()
    await gateway.chat(path=ids("r"), key="run", model=body["name"])
    assert (await gateway.call("DELETE", f"/internal/policies?name={body['name']}", key)).status == 403
    scored = await gateway.call(
        "POST", "/internal/policies:score", key, json={"model": body["name"], "token_ids": [1, 2]}
    )
    assert scored.status == 403
    read = await gateway.call("GET", "/internal/rollouts/r/completions", key)
    assert (read.status, read.body) == ((200, {"completions": []}) if key == "other_run" else (403, read.body))


async def test_a_run_key_publishes_from_its_own_run_only(gateway: Gateway) -> None:
    elsewhere, sha256 = gateway.adapter("elsewhere")
    (gateway.state.settings.data_dir / "runs" / "job1").mkdir(parents=True)
    link = gateway.state.settings.data_dir / "runs" / "job1" / "link"
    link.symlink_to(elsewhere)
    for path in (elsewhere, link, elsewhere.parent / "runs" / "job1" / ".." / ".." / "elsewhere"):
        body = gateway.policy() | {"adapter_path": str(path), "sha256": sha256}
        assert (await gateway.call("PUT", "/internal/policies", "run", json=body)).status == 403
        assert (await gateway.call("PUT", "/internal/policies", "internal", json=body)).status == 200


@pytest.mark.parametrize(
    "change",
    [{"version": 3}, {"job": "job2"}, {"name": "x"}, {"sampling": {"top_p": 0.5}}, {"more": 1}, {"sha256": "x"}],
)
async def test_policy_bodies_are_checked(gateway: Gateway, change: dict) -> None:
    answer = await gateway.call("PUT", "/internal/policies", "run", json=gateway.policy() | change)
    assert answer.status == 400
    assert gateway.engine.loaded == []


async def test_an_adapter_that_the_engine_lost_is_loaded_again(gateway: Gateway) -> None:
    name = await gateway.publish()
    gateway.engine.adapters.clear()
    assert (await gateway.chat(path=ids("r"), model=name)).status == 200
    gateway.engine.adapters.clear()
    scored = await gateway.call("POST", "/internal/policies:score", "run", json={"model": name, "token_ids": [1, 2, 3]})
    assert scored.body == {"logprobs": [-0.02, -0.03]}
    assert gateway.engine.loaded == [name] * 3


async def test_an_adapter_whose_file_changed_is_not_served(gateway: Gateway) -> None:
    name = await gateway.publish()
    gateway.engine.adapters.clear()
    gateway.adapter("runs/job1/adapters/v000000", fill=9.0)
    answer = await gateway.chat(path=ids("r"), model=name)
    assert answer.status == 409
    assert "changed since" in answer.body["error"]["message"]
    assert gateway.engine.adapters == {}


async def test_scoring_checks_its_ids(gateway: Gateway) -> None:
    for token_ids in ([1], [1, 260], [1, -1]):
        answer = await gateway.call(
            "POST", "/internal/policies:score", "run", json={"model": gateway.base, "token_ids": token_ids}
        )
        assert answer.status in (400, 404)
    await gateway.publish()
    base = await gateway.call(
        "POST", "/internal/policies:score", "run", json={"model": gateway.base, "token_ids": [1, 2]}
    )
    assert base.body == {"logprobs": [-0.02]}


async def test_promoted_models_are_served_and_the_least_used_one_makes_room(gateway: Gateway) -> None:
    policy = await gateway.publish()
    names = [gateway.promote(f"m{number}", fill=float(number)) for number in range(MAX_PROMOTED + 2)]
    for name in names[:MAX_PROMOTED]:
        answer = await gateway.chat(model=name)
        assert (answer.status, answer.body["model"]) == (200, name)
    assert (await gateway.chat(model=names[0])).status == 200  # used again: now the second is the oldest
    for name in names[MAX_PROMOTED:]:
        assert (await gateway.chat(model=name)).status == 200
    assert [name.partition(PROMOTED_MARK)[0] for name in gateway.engine.unloaded] == names[1:3]
    assert policy in gateway.engine.adapters
    assert (await gateway.chat(model=names[1])).status == 200, "loaded again when it is asked for"
    assert (await gateway.chat(model=names[0], key="other_account")).status == 404


async def test_a_name_that_was_deleted_and_made_anew_is_not_served_with_the_old_weights(gateway: Gateway) -> None:
    name = gateway.promote("mine", fill=1.0)
    assert (await gateway.chat(model=name)).status == 200
    with gateway.state.sessions.begin() as session:
        session.delete(get_model(session, name))
    gateway.promote("mine", fill=2.0)
    gateway.state.models.forget(name)
    assert (await gateway.chat(model=name)).status == 200
    first, second = (sent["model"] for sent in gateway.engine.generated)
    assert gateway.engine.adapters[first] != gateway.engine.adapters[second]
