"""From an agent's calls to what is trained, to the token: what it said through a real gateway, as the orchestrator reads it back.

The engine is a fake that says what the test tells it to; one byte is one token, so the expected ids are spelled out as text. Given
ids stand in `given(...)`, sampled ones in `sampled(...)`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from tunesmith.orchestrator.gateway import Gateway as GatewayClient
from tunesmith.orchestrator.groups import ScoredRollout, group, seal
from tunesmith.orchestrator.samples import TokenSequence, merge

from tests.gateway.conftest import FIVE, Gateway

PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
TOOLS_SHOWN = '[tool]{"type": "function", "function": {"name": "f"}}\n'


def spell(text: str) -> list[int]:
    """Ids of ASCII text, written without the platform's tokenizer: `<s>` is 256, `</s>` is 257, `!` is 0 and so on."""
    ids: list[int] = []
    while text:
        for special, id in (("<s>", 256), ("</s>", 257), (" ", 220), ("\n", 198)):
            if text.startswith(special):
                ids.append(id)
                text = text.removeprefix(special)
                break
        else:
            ids.append(PRINTABLE.index(text[0]))
            text = text[1:]
    return ids


def given(text: str) -> TokenSequence:
    ids = spell(text)
    return TokenSequence(ids, [0] * len(ids), [0.0] * len(ids))


def sampled(text: str) -> TokenSequence:
    ids = spell(text)
    return TokenSequence(ids, [1] * len(ids), [-(1 + id % 7) / 8 for id in ids])


def joined(*parts: TokenSequence) -> TokenSequence:
    whole = TokenSequence()
    for part in parts:
        whole.token_ids += part.token_ids
        whole.sampled += part.sampled
        whole.logprobs += part.logprobs
    return whole


@dataclass
class Agent:
    """An agent in one rollout of a job: keeps its history and asks with it."""

    gateway: Gateway
    model: str
    rollout: str = "r-a0"
    history: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None

    @property
    def path(self) -> str:
        return "/" + FIVE.format(r=self.rollout)

    async def ask(self, said: str | None, answer: str, **fields: Any) -> dict[str, Any]:
        """Say something (None: nothing new), have the engine answer so, and remember both."""
        if said is not None:
            self.history.append({"role": "user", "content": said})
        self.gateway.engine.answers = [answer]
        body = {"model": self.model, "messages": self.history, "tools": self.tools, **fields}
        reply = await self.gateway.call("POST", f"{self.path}/chat/completions", "rollout", json=body)
        assert reply.status == 200, reply.body
        message = reply.body["choices"][0]["message"]
        self.history.append(message)
        return message

    async def trained(self) -> list[TokenSequence]:
        """What the orchestrator makes of the rollout."""
        async with GatewayClient(self.gateway.url, self.gateway.keys["run"], patience=5) as client:
            return merge((await client.completions([self.rollout]))[self.rollout], self.model)


@pytest.fixture
async def agent(gateway: Gateway) -> Agent:
    return Agent(gateway, await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 150, "stop": []}))


async def test_the_first_call_number_by_number(agent: Agent) -> None:
    await agent.ask("hi", "ok")
    (sequence,) = await agent.trained()
    # <s> [ u s e r ] \n h i </s> \n [ a s s i s t a n t ] \n o k </s>
    assert sequence.token_ids == [
        *(256, 58, 84, 82, 68, 81, 60, 198, 71, 72, 257, 198),
        *(58, 64, 82, 82, 72, 82, 83, 64, 77, 83, 60, 198),
        *(78, 74, 257),
    ]
    assert sequence.sampled == [0] * 24 + [1] * 3
    assert sequence.logprobs == [0.0] * 24 + [-0.25, -0.625, -0.75]


async def test_turns_become_one_sequence(agent: Agent) -> None:
    for number, answer in enumerate(("one", "two  ", "")):
        await agent.ask(f"q{number}", answer)
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one</s>"),
            given("\n[user]\nq1</s>\n[assistant]\n"),
            sampled("two  </s>"),
            given("\n[user]\nq2</s>\n[assistant]\n"),
            sampled("</s>"),
        )
    ]


async def test_parallel_tool_calls_keep_the_spelling_that_was_sampled(agent: Agent) -> None:
    agent.tools = TOOLS
    spelled = 'go <tool_call>{"name":"f","arguments":{"x":1}}</tool_call> <tool_call>{"name": "f"}</tool_call>'
    message = await agent.ask("q", spelled)
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "f", "arguments": '{"x": 1}'},
        {"name": "f", "arguments": "{}"},
    ]
    message["tool_calls"][0]["function"]["arguments"] = '{ "x" : 1.0 }'  # as some client libraries write it again
    message["tool_calls"][0]["id"] = "renamed"
    agent.history += [
        {"role": "tool", "tool_call_id": "renamed", "content": "7"},
        {"role": "tool", "tool_call_id": message["tool_calls"][1]["id"], "content": "8"},
    ]
    await agent.ask(None, "15")
    assert await agent.trained() == [
        joined(
            given(f"<s>{TOOLS_SHOWN}[user]\nq</s>\n[assistant]\n"),
            sampled(spelled + "</s>"),
            given("\n[tool]\n7</s>\n[tool]\n8</s>\n[assistant]\n"),
            sampled("15</s>"),
        )
    ]


async def test_an_edited_history_is_a_sequence_of_its_own(agent: Agent) -> None:
    await agent.ask("q0", "one")
    await agent.ask("q1", "two")
    agent.history[1] = {"role": "assistant", "content": "uno"}
    await agent.ask("q2", "three")
    await agent.ask("q3", "four")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one</s>"),
            given("\n[user]\nq1</s>\n[assistant]\n"),
            sampled("two</s>"),
        ),
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\nuno</s>\n[user]\nq1</s>\n[assistant]\ntwo</s>\n"),
            given("[user]\nq2</s>\n[assistant]\n"),
            sampled("three</s>"),
            given("\n[user]\nq3</s>\n[assistant]\n"),
            sampled("four</s>"),
        ),
    ]


async def test_a_history_cut_at_its_end_shares_its_beginning_and_trains_it_once(agent: Agent) -> None:
    await agent.ask("q0", "one")
    await agent.ask("q1", "two")
    del agent.history[2:]
    await agent.ask("q2", "three")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one</s>"),
            given("\n[user]\nq1</s>\n[assistant]\n"),
            sampled("two</s>"),
        ),
        joined(given("<s>[user]\nq0</s>\n[assistant]\none</s>\n[user]\nq2</s>\n[assistant]\n"), sampled("three</s>")),
    ]


@pytest.mark.parametrize("used", [0, 1])
async def test_of_a_call_that_was_made_again_the_answer_in_use_is_trained(agent: Agent, used: int) -> None:
    answers = []
    for answer in ("one", "uno"):
        agent.history.clear()
        answers.append(await agent.ask("q0", answer))
    agent.history[1:] = [answers[used]]
    await agent.ask("q1", "two")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled(("one</s>", "uno</s>")[used]),
            given("\n[user]\nq1</s>\n[assistant]\n"),
            sampled("two</s>"),
        )
    ]


async def test_a_call_made_again_with_the_same_answer_is_trained_once(agent: Agent) -> None:
    for _ in range(2):
        agent.history.clear()
        await agent.ask("q0", "one")
    await agent.ask("q1", "two")
    (sequence,) = await agent.trained()
    assert sequence == joined(
        given("<s>[user]\nq0</s>\n[assistant]\n"),
        sampled("one</s>"),
        given("\n[user]\nq1</s>\n[assistant]\n"),
        sampled("two</s>"),
    )


async def test_of_two_models_only_the_policy_is_trained(agent: Agent) -> None:
    await agent.ask("q0", "one")
    await agent.ask("judge it", "fine", model=agent.gateway.base)
    await agent.ask("go on", "two")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one</s>"),
            given("\n[user]\njudge it</s>\n[assistant]\nfine</s>\n[user]\ngo on</s>\n[assistant]\n"),
            sampled("two</s>"),
        )
    ]


async def test_an_agent_that_never_calls_the_model_still_counts_in_its_group(agent: Agent) -> None:
    assert await agent.trained() == []
    silent = ScoredRollout(0, 0, 0, "r-a0", 0, 0.0, True, "")
    spoke = ScoredRollout(0, 1, 0, "s-a0", 0, 1.0, True, "", sequences=[joined(given("a"), sampled("b"))])
    batch = seal(group([silent, spoke]), step=0, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator="1")
    assert [rollout.score for rollout in batch.header.rollouts] == [0.0, 1.0]
    assert [sample.rollout for sample in batch.samples] == [1]


async def test_an_agent_that_crashes_half_way_trains_its_whole_turns_only(agent: Agent) -> None:
    await agent.ask("q0", "one")
    agent.gateway.engine.answers = []  # `slow` in the prompt has it wait between tokens
    body = {
        "model": agent.model,
        "messages": [*agent.history, {"role": "user", "content": "slow"}],
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {agent.gateway.keys['rollout']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{agent.gateway.url}{agent.path}/chat/completions", json=body) as response:
            assert response.status == 200
            for _ in range(6):
                await response.content.readline()
            response.close()
    async with asyncio.timeout(10):
        while len(stored := agent.gateway.state.store.of_rollout(agent.rollout)) < 2:
            await asyncio.sleep(0.02)
    assert stored[1].status == "aborted"
    assert stored[1].sampled_ids, "something was sampled, and is not trained"
    assert await agent.trained() == [joined(given("<s>[user]\nq0</s>\n[assistant]\n"), sampled("one</s>"))]


async def test_a_zombie_attempt_trains_nothing_in_the_attempt_that_counts(agent: Agent) -> None:
    zombie, living = agent, Agent(agent.gateway, agent.model, "r-a1")
    await zombie.ask("q0", "one")
    await living.ask("q0", "one")
    await zombie.ask("q1", "zombie")
    await living.ask("q1", "two")
    assert await living.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one</s>"),
            given("\n[user]\nq1</s>\n[assistant]\n"),
            sampled("two</s>"),
        )
    ]
    late = await agent.gateway.chat(path=living.path, key="rollout", model=agent.model)
    assert late.status == 409, "what was read is closed: nothing can be added behind the orchestrator's back"


async def test_a_call_in_flight_when_the_rollout_was_read_is_never_trained(agent: Agent) -> None:
    await agent.ask("q0", "one")
    agent.gateway.engine.answers = []
    agent.gateway.engine.slow_seconds = 0.01
    body = {"model": agent.model, "messages": [{"role": "user", "content": "slow"}]}
    late = asyncio.create_task(agent.gateway.call("POST", f"{agent.path}/chat/completions", "rollout", json=body))
    async with asyncio.timeout(10):
        while ("accounts/local", "job1", agent.rollout) not in agent.gateway.state.rollouts._in_flight:
            await asyncio.sleep(0.005)
    before = await agent.trained()
    assert before == [joined(given("<s>[user]\nq0</s>\n[assistant]\n"), sampled("one</s>"))]
    assert (await late).status == 200
    stored = agent.gateway.state.store.of_rollout(agent.rollout)
    assert [completion.status for completion in stored] == ["complete", "complete"], "it is recorded all the same"
    assert await agent.trained() == before, "an orchestrator that starts again reads what the first one read"


async def test_a_turn_cut_by_the_token_limit_is_closed_in_the_next_prompt(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 3, "stop": []})
    agent = Agent(gateway, name)
    await agent.ask("q0", "longer")
    await agent.ask("q1", "ab")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("lon"),
            given("</s>\n[user]\nq1</s>\n[assistant]\n"),
            sampled("ab</s>"),
        )
    ]


async def test_a_stop_string_that_nobody_saw_is_trained_as_sampled(gateway: Gateway) -> None:
    name = await gateway.publish(sampling={"temperature": 1.0, "max_tokens": 20, "stop": ["END"]})
    agent = Agent(gateway, name)
    assert (await agent.ask("q0", "one END two"))["content"] == "one "
    await agent.ask("q1", "ab")
    assert await agent.trained() == [
        joined(
            given("<s>[user]\nq0</s>\n[assistant]\n"),
            sampled("one END"),
            given("</s>\n[user]\nq1</s>\n[assistant]\n"),
            sampled("ab</s>"),
        )
    ]


async def test_special_tokens_that_a_user_spells_stay_text_in_every_turn(agent: Agent) -> None:
    await agent.ask("a</s>", "one")
    await agent.ask("b</s>", "two")
    spoof = [PRINTABLE.index(character) for character in "</s>"]
    (sequence,) = await agent.trained()
    first = [*spell("<s>[user]\na"), *spoof, *spell("</s>\n[assistant]\n")]
    assert sequence.token_ids == [
        *first,
        *spell("one</s>\n[user]\nb"),
        *spoof,
        *spell("</s>\n[assistant]\ntwo</s>"),
    ]
    assert sum(sequence.sampled) == 8


async def test_of_several_candidates_the_one_that_was_sent_back_is_continued(gateway: Gateway) -> None:
    """Live policies sample one; a base model's candidates share their prompt and are told apart by what they say."""
    path = "/" + FIVE.format(r="r")
    body: dict[str, Any] = {"model": gateway.base, "messages": [{"role": "user", "content": "q"}]}
    first = await gateway.call("POST", f"{path}/chat/completions", json={**body, "n": 3, "temperature": 1})
    said = [choice["message"] for choice in first.body["choices"]]
    assert len({message["content"] for message in said}) == 3
    again = {**body, "messages": [*body["messages"], said[1], {"role": "user", "content": "more"}]}
    await gateway.call("POST", f"{path}/chat/completions", json=again)
    *candidates, last = gateway.state.store.of_rollout("r")
    (sent,) = [c for c in candidates if c.index == 1]
    assert last.prompt_ids == [*sent.prompt_ids, *sent.sampled_ids, *spell("\n[user]\nmore</s>\n[assistant]\n")]
