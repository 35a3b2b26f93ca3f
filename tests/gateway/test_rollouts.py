"""Rollouts of several turns: counted, continued on the recorded ids, found again after a restart; calls that are cut."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from tunesmith.db.completions import Completion
from tunesmith.gateway import GatewayState
from tunesmith.gateway.rollouts import noise_seed
from tunesmith.rendering import Renderer

from tests.gateway.conftest import FIVE, Gateway, serve


def ids(rollout: str) -> str:
    return "/" + FIVE.format(r=rollout)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def turns(gateway: Gateway, rollout: str, name: str, history: list[dict[str, Any]], count: int) -> None:
    """Chat `count` turns on, as an agent does: what came back is sent again."""
    for number in range(count):
        history.append(user(f"question {number} {len(history)}"))
        answer = await gateway.chat(path=ids(rollout), key="rollout", model=name, messages=history)
        assert answer.status == 200, answer.body
        history.append(answer.body["choices"][0]["message"])


async def test_turns_are_counted_per_rollout_and_seed_the_noise(gateway: Gateway) -> None:
    name = await gateway.publish()
    for rollout in ("x-a0", "y-a0"):
        await turns(gateway, rollout, name, [], 2)
    assert [sent["seed"] for sent in gateway.engine.generated] == [
        noise_seed(7, rollout, turn) for rollout in ("x-a0", "y-a0") for turn in (0, 1)
    ]
    assert [completion["turn"] for completion in await gateway.completions("x-a0")] == [0, 1]


async def test_a_later_turn_begins_with_the_recorded_ids(gateway: Gateway) -> None:
    # "answer" is sampled with a stop string that the user never sees: only the recorded ids still hold it.
    name = await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 20, "stop": ["er"]})
    await turns(gateway, "r", name, [], 3)
    recorded = await gateway.completions("r")
    for before, after in zip(recorded, recorded[1:], strict=False):
        so_far = before["prompt_ids"] + before["sampled_ids"]
        assert after["prompt_ids"][: len(so_far)] == so_far
    text = gateway.engine.tokenizer.decode(recorded[1]["prompt_ids"], skip_special_tokens=False)
    assert text == "<s>[user]\nquestion 0 0</s>\n[assistant]\nanswer</s>\n[user]\nquestion 1 2</s>\n[assistant]\n"


async def test_the_models_own_end_of_turn_is_not_doubled(gateway: Gateway) -> None:
    name = await gateway.publish()
    await turns(gateway, "r", name, [], 2)
    first, second = await gateway.completions("r")
    so_far = first["prompt_ids"] + first["sampled_ids"]
    assert first["sampled_ids"][-1] == gateway.engine.eos
    assert second["prompt_ids"][: len(so_far)] == so_far
    assert gateway.engine.eos not in second["prompt_ids"][len(so_far) : len(so_far) + 2]


async def test_an_edited_history_forks(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 20, "stop": ["er"]})
    history: list[dict[str, Any]] = []
    await turns(gateway, "r", name, history, 1)
    history[-1] = {"role": "assistant", "content": "something else"}
    await turns(gateway, "r", name, history, 1)
    second = (await gateway.completions("r"))[1]
    text = gateway.engine.tokenizer.decode(second["prompt_ids"], skip_special_tokens=False)
    assert "[assistant]\nsomething else</s>" in text


async def test_another_account_or_job_does_not_share_a_rollouts_turns(gateway: Gateway) -> None:
    name = await gateway.publish()
    await gateway.chat(path=ids("r"), model=gateway.base)
    await gateway.chat(path=ids("r"), key="rollout", model=name)
    stored = gateway.state.store.of_rollout("r")
    assert sorted((completion.job or "", completion.turn) for completion in stored) == [("", 0), ("job1", 0)]
    read = await gateway.call("GET", "/internal/rollouts/r/completions", "run")
    assert [completion["model"] for completion in read.body["completions"]] == [name]


async def test_a_restarted_gateway_goes_on_where_the_rollout_was(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 20, "stop": ["er"]})
    history: list[dict[str, Any]] = []
    await turns(gateway, "r-a0", name, history, 2)
    state = GatewayState(gateway.state.settings)
    server, task, gateway.url = await serve(state)
    try:
        await turns(gateway, "r-a0", name, history, 1)
    finally:
        server.should_exit = True
        await task
    recorded = await gateway.completions_of(state, "r-a0")
    assert [completion.turn for completion in recorded] == [0, 1, 2]
    so_far = recorded[1].prompt_ids + recorded[1].sampled_ids
    assert recorded[2].prompt_ids[: len(so_far)] == so_far
    assert gateway.engine.generated[-1]["seed"] == noise_seed(7, "r-a0", 2)


async def test_a_call_that_failed_before_anything_was_sampled_takes_no_turn(gateway: Gateway) -> None:
    name = await gateway.publish()
    too_long = await gateway.chat("x" * 600, ids("r"), "rollout", model=name)
    assert too_long.status == 400
    gateway.engine.context_length = 8  # the engine itself refuses
    assert (await gateway.chat("say hi", ids("r"), "rollout", model=name)).status == 400
    gateway.engine.context_length = 512
    assert (await gateway.chat("say hi", ids("r"), "rollout", model=name)).status == 200
    assert [completion["turn"] for completion in await gateway.completions("r")] == [0]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_engine_and_leaves_an_aborted_record(
    gateway: Gateway, stream: bool
) -> None:
    body = {"model": gateway.base, "messages": [user("slow")], "stream": stream, "max_tokens": 400}
    headers = {"Authorization": f"Bearer {gateway.keys['account']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        if stream:
            async with session.post(f"{gateway.url}{ids('cut')}/chat/completions", json=body) as response:
                for _ in range(6):
                    await response.content.readline()
                response.close()
        else:
            timeout = aiohttp.ClientTimeout(total=0.4)
            with pytest.raises(TimeoutError):
                await session.post(f"{gateway.url}{ids('cut')}/chat/completions", json=body, timeout=timeout)
    stored: list[Completion] = []
    async with asyncio.timeout(5):
        while not stored:
            await asyncio.sleep(0.05)
            stored = gateway.state.store.of_rollout("cut")
    assert [(completion.status, completion.finish_reason) for completion in stored] == [("aborted", "abort")]
    assert 1 <= len(stored[0].sampled_ids) < 100
    assert len(stored[0].sampled_ids) == len(stored[0].logprobs)
    assert gateway.engine.aborted == [stored[0].id.removesuffix("-0")]
    again = await gateway.chat("say hi", ids("cut"))
    assert again.status == 200
    assert [completion["turn"] for completion in await gateway.completions("cut")] == [0, 1]


async def test_an_engine_that_dies_in_the_middle_is_asked_again(gateway: Gateway) -> None:
    answer = await gateway.chat("die please", ids("r"))
    assert answer.status == 200
    assert gateway.engine.deaths == 1
    (stored,) = await gateway.completions("r")
    assert stored["status"] == "complete"
    assert len(gateway.supervisor.asked) == 2


async def test_a_stream_whose_engine_dies_ends_with_an_error_and_an_aborted_record(gateway: Gateway) -> None:
    answer = await gateway.chat("die please", ids("r"), stream=True)
    assert answer.status == 200
    last = answer.body.strip().split("\n\n")[-1]
    assert '"error"' in last
    assert "stopped answering" in last
    assert "[DONE]" not in answer.body
    async with asyncio.timeout(5):
        while not (stored := await gateway.completions("r")):
            await asyncio.sleep(0.02)
    assert [completion["status"] for completion in stored] == ["aborted"]


async def test_a_restarted_engine_is_found_again_and_given_its_adapters(gateway: Gateway) -> None:
    name = await gateway.publish()
    await gateway.engine.stop()
    gateway.engine.adapters.clear()
    await gateway.engine.start()  # another port, as after a crash
    assert (await gateway.chat(path=ids("r"), key="rollout", model=name)).status == 200
    assert gateway.engine.loaded == [name, name]


async def test_without_a_supervisor_the_answer_says_what_to_start(gateway: Gateway) -> None:
    await gateway.supervisor.stop()
    answer = await gateway.chat()
    assert answer.status == 503
    assert "tunesmith up" in answer.body["error"]["message"]


async def test_many_calls_at_once_are_all_recorded(gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.chat(f"say {n}", ids(f"r{n % 10}")) for n in range(100)))
    assert {answer.status for answer in answers} == {200}
    for rollout in range(10):
        stored = await gateway.completions(f"r{rollout}")
        assert [completion["turn"] for completion in stored] == list(range(10))


async def test_rollouts_are_closed_and_read_together_as_they_are_one_by_one(gateway: Gateway) -> None:
    name = await gateway.publish()
    for rollout, calls in (("r1", 2), ("r2", 1)):
        await turns(gateway, rollout, name, [], calls)
    asked = {"rollout_ids": ["r2", "nothing", "r1", "r2"]}
    answer = await gateway.call("POST", "/internal/rollouts:close", "run", json=asked)
    assert answer.status == 200
    assert list(answer.body["completions"]) == ["r2", "nothing", "r1"]
    assert [len(answer.body["completions"][rollout]) for rollout in ("r1", "r2", "nothing")] == [2, 1, 0]
    for rollout in ("r1", "r2", "nothing"):
        assert (await gateway.chat("more", ids(rollout), "rollout", model=name)).status == 409
        assert await gateway.completions(rollout) == answer.body["completions"][rollout]
    kept = {record.id: record for rollout in ("r1", "r2") for record in gateway.state.store.of_rollout(rollout)}
    for read in [*answer.body["completions"]["r1"], *answer.body["completions"]["r2"]]:
        record = kept.pop(read["id"])
        assert (read["prompt_ids"], read["sampled_ids"]) == (record.prompt_ids, record.sampled_ids)
        assert (read["logprobs"], read["turn"], read["status"]) == (record.logprobs, record.turn, "complete")
        assert (read["model"], read["policy_version"], read["rollout_id"]) == (name, 0, record.ids.rollout_id)
    assert kept == {}
    assert (await gateway.call("POST", "/internal/rollouts:close", "run", json={"rollout_ids": []})).status == 400


async def test_long_rollouts_are_closed_at_once_and_read_a_few_at_a_time(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await gateway.publish()
    for rollout in ("r1", "r2"):
        await turns(gateway, rollout, name, [], 1)
    monkeypatch.setattr("tunesmith.gateway.internal._MOST_TOKENS", 1)
    asked = ["r1", "r2"]
    first = await gateway.call("POST", "/internal/rollouts:close", "run", json={"rollout_ids": asked})
    assert list(first.body["completions"]) == ["r1"]
    assert (await gateway.chat("more", ids("r2"), "rollout", model=name)).status == 409, "closed, though not read"
    rest = await gateway.call("POST", "/internal/rollouts:close", "run", json={"rollout_ids": asked[1:]})
    assert [len(rest.body["completions"]["r2"]), len(first.body["completions"]["r1"])] == [1, 1]


async def test_the_rollouts_of_a_group_share_a_rendered_prompt_and_nothing_else(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await gateway.publish()
    rendered: list[str] = []
    render = Renderer.render

    def count(self: Renderer, messages: list[dict[str, Any]], *args: Any, **kwargs: Any) -> list[int]:
        rendered.append(messages[-1]["content"])
        return render(self, messages, *args, **kwargs)

    monkeypatch.setattr(Renderer, "render", count)
    for rollout, text in (("a", "one"), ("b", "one"), ("c", "two"), ("d", "one")):
        assert (await gateway.chat(text, ids(rollout), "rollout", model=name)).status == 200
    assert rendered == ["one", "two"]
    prompts = {rollout: (await gateway.completions(rollout))[0]["prompt_ids"] for rollout in "abcd"}
    assert prompts["a"] == prompts["b"] == prompts["d"] != prompts["c"]
    monkeypatch.setattr("tunesmith.gateway.rollouts.PROMPT_SECONDS", 0.0)  # a template may say what time it is
    await gateway.chat("one", ids("e"), "rollout", model=name)
    assert rendered == ["one", "two", "one"]
